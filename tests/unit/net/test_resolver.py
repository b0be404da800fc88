"""Lookups over real sockets against the tiny DNS server."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address
from typing import Any

import pytest

from empath.domain.errors import PermanentRefusal, TransientRefusal
from empath.domain.reason import Reason
from empath.net.dns_client import MAX_RECORDS
from empath.net.dns_memory import MAX_NEGATIVE_TTL, MAX_STALE, MAX_TTL, MIN_TTL, TROUBLE_FOR
from empath.net.nameserver import parse_nameserver
from empath.net.resolver import DnsResolver
from empath.ports import MailExchanger, MailExchangers
from empath.ports.dns_cache import RecordType
from empath.testing.clock import ManualClock
from empath.testing.dns_server import DnsServer, serving
from empath.testing.zones import Fault, Node, Zones

MANY = [(number, f"mx{number}.a-rather-long-name-to-fill-the-answer.example.test") for number in range(80)]
ZONES: dict[str, Node] = {
    "example.test": Node(mx=[(20, "MX2.Example.Test"), (10, "mx1.example.test")]),
    "many.test": Node(mx=MANY),
    "slow.test": Node(fault="drop"),
    "odd.test": Node(fault="garbage"),
    "half.test": Node(a=["192.0.2.7"], fault="servfail", fault_types=("AAAA",)),
    "xn--bcher-kva.test": Node(mx=[(10, "mx1.example.test")]),
    "empty.test": Node(),
    "loop1.test": Node(cname="loop2.test"),
    "loop2.test": Node(cname="loop1.test"),
}


def resolver_of(server: DnsServer, **settings: Any) -> DnsResolver:
    return DnsResolver([server.nameserver], **settings)


async def test_an_answer_too_large_for_udp_is_asked_for_over_tcp() -> None:
    async with serving(ZONES) as server:
        answer = await resolver_of(server).mail_exchangers("many.test")
    assert sorted(answer.records) == [MailExchanger(*record) for record in MANY]
    assert list(server.queries) == [("many.test", "MX", "udp"), ("many.test", "MX", "tcp")]


@pytest.mark.parametrize("domain", ["bücher.test", "BÜCHER.test", "xn--bcher-kva.test", "bücher.test."])
async def test_internationalised_domains_are_asked_for_as_a_labels(domain: str) -> None:
    async with serving(ZONES) as server:
        found = await resolver_of(server).mail_exchangers(domain)
    assert found == MailExchangers((MailExchanger(10, "mx1.example.test"),), "xn--bcher-kva.test")


@pytest.mark.parametrize("name", ["slow.test", "odd.test"])
async def test_silence_and_nonsense_are_dns_trouble_in_bounded_time(name: str) -> None:
    async with serving(ZONES) as server:
        began = time.monotonic()
        with pytest.raises(TransientRefusal) as caught:
            await resolver_of(server, query_timeout=0.1, lookup_timeout=0.4).mail_exchangers(name)
    assert time.monotonic() - began < 2
    assert (caught.value.reply.code, str(caught.value.reply.status)) == (451, "4.4.3")
    assert caught.value.reason is Reason.DNS_TROUBLE


async def test_no_nameserver_there_is_dns_trouble() -> None:
    async with serving(ZONES) as server:
        pass
    with pytest.raises(TransientRefusal):
        await resolver_of(server, query_timeout=0.1, lookup_timeout=0.3).addresses("example.test")


async def test_the_next_nameserver_is_asked_when_one_is_lame() -> None:
    async with serving({"*": Node(fault="refused")}) as lame, serving(ZONES) as good:
        resolver = DnsResolver([lame.nameserver, good.nameserver])
        assert len((await resolver.mail_exchangers("example.test")).records) == 2


async def test_a_loop_of_cnames_is_dns_trouble() -> None:
    async with serving(ZONES) as server:
        with pytest.raises(TransientRefusal):
            await resolver_of(server).mail_exchangers("loop1.test")


async def test_half_an_answer_is_better_than_none() -> None:
    async with serving(ZONES) as server:
        assert await resolver_of(server).addresses("half.test") == [ip_address("192.0.2.7")]


async def test_answers_are_remembered_negative_ones_too() -> None:
    async with serving(ZONES) as server:
        resolver = resolver_of(server)
        for _ in range(3):
            await resolver.mail_exchangers("example.test")
            with pytest.raises(PermanentRefusal):
                await resolver.mail_exchangers("nosuch.test")
    assert list(server.queries) == [("example.test", "MX", "udp"), ("nosuch.test", "MX", "udp")]


@pytest.mark.parametrize(
    ("ttl", "after", "asked"),
    [
        (60, 59, 1),
        (60, 61, 2),
        (0, MIN_TTL - 1, 1),
        (0, MIN_TTL + 1, 2),
        (10_000_000, MAX_TTL - 1, 1),
        (10_000_000, MAX_TTL + 1, 2),
    ],
)
async def test_answers_are_remembered_for_their_ttl_within_bounds(ttl: int, after: float, asked: int) -> None:
    clock = ManualClock()
    async with serving(ZONES, ttl=ttl) as server:
        resolver = resolver_of(server, now=clock.now)
        await resolver.mail_exchangers("example.test")
        clock.advance(after)
        await resolver.mail_exchangers("example.test")
    assert len(server.queries) == asked


@pytest.mark.parametrize(
    ("ttl", "after", "asked"),
    [(60, 61, 2), (10_000_000, MAX_NEGATIVE_TTL - 1, 1), (10_000_000, MAX_NEGATIVE_TTL + 1, 2)],
)
@pytest.mark.parametrize("name", ["nosuch.test", "empty.test"])
async def test_a_negative_answer_is_remembered_for_the_soa_s_minimum_within_bounds(
    name: str, ttl: int, after: float, asked: int
) -> None:
    clock = ManualClock()
    async with serving(ZONES, ttl=ttl) as server:
        resolver = resolver_of(server, now=clock.now)
        for _ in range(2):
            await resolver.find(name, "MX")
            clock.advance(after)
    assert len(server.queries) == asked


async def test_a_question_that_came_to_nothing_is_not_asked_again_for_half_a_minute() -> None:
    clock = ManualClock()
    zones: dict[str, Node] = {"example.test": Node(fault="servfail")}
    async with serving(zones) as server:
        resolver = resolver_of(server, now=clock.now)
        with pytest.raises(TransientRefusal, match="SERVFAIL"):
            await resolver.mail_exchangers("example.test")
        asked = len(server.queries)
        zones["example.test"] = ZONES["example.test"]
        clock.advance(TROUBLE_FOR.total_seconds() - 1)
        with pytest.raises(TransientRefusal, match="SERVFAIL"):
            await resolver.mail_exchangers("example.test")
        assert len(server.queries) == asked
        clock.advance(1)
        assert len((await resolver.mail_exchangers("example.test")).records) == 2


@pytest.mark.parametrize("fault", ["servfail", "refused", "drop"])
async def test_an_answer_past_its_time_serves_while_there_is_no_other(fault: Fault) -> None:
    clock = ManualClock()
    zones = dict(ZONES)
    async with serving(zones) as server:
        resolver = resolver_of(server, now=clock.now, query_timeout=0.1, lookup_timeout=0.3)
        before = await resolver.mail_exchangers("example.test")
        zones["example.test"] = Node(fault=fault)
        clock.advance(3600)
        assert await resolver.mail_exchangers("example.test") == before
        asked = len(server.queries)
        found = await resolver.find("example.test", "MX")
        assert (found.source, len(server.queries)) == ("stale", asked)
        assert found.trouble
        zones["example.test"] = Node(mx=[(1, "new.example.test")])
        clock.advance(TROUBLE_FOR.total_seconds())
        found = await resolver.find("example.test", "MX")
        assert (found.source, found.trouble) == ("asked", None)


@pytest.mark.parametrize(("name", "rdtype"), [("example.test", "MX"), ("half.test", "A")])
async def test_an_answer_past_its_time_does_not_serve_for_ever(name: str, rdtype: RecordType) -> None:
    clock = ManualClock()
    zones = dict(ZONES)
    async with serving(zones) as server:
        resolver = resolver_of(server, now=clock.now)
        assert (await resolver.find(name, rdtype)).source == "asked"
        zones[name] = Node(fault="servfail")
        clock.advance(60 + MAX_STALE[rdtype].total_seconds() - 1)
        assert (await resolver.find(name, rdtype)).source == "stale"
        clock.advance(1)
        assert (await resolver.find(name, rdtype)).answer is None
        clock.advance(TROUBLE_FOR.total_seconds())
        assert (await resolver.find(name, rdtype)).answer is None


async def test_mail_fails_by_no_answer_that_is_past_its_time() -> None:
    clock = ManualClock()
    zones = dict(ZONES)
    async with serving(zones) as server:
        resolver = resolver_of(server, now=clock.now)
        with pytest.raises(PermanentRefusal):
            await resolver.mail_exchangers("nosuch.test")
        zones["nosuch.test"] = Node(fault="servfail")
        clock.advance(61)
        with pytest.raises(TransientRefusal):
            await resolver.mail_exchangers("nosuch.test")


@pytest.mark.parametrize("secure", [True, False])
async def test_what_the_name_server_says_about_dnssec_is_told(*, secure: bool) -> None:
    zones = {"example.test": Node(mx=[(10, "mx.example.test")], secure=secure)}
    async with serving(zones) as server:
        resolver = resolver_of(server)
        for _ in range(2):
            assert (await resolver.mail_exchangers("example.test")).authenticated is secure


async def test_a_canonical_name_is_told() -> None:
    zones = {"alias.test": Node(cname="Further.Test"), "further.test": Node(a=["192.0.2.1"])}
    async with serving(zones) as server:
        found = await resolver_of(server).mail_exchangers("alias.test")
    assert found == MailExchangers((), "further.test")


@pytest.mark.parametrize("name", ["example.onion", "example.alt", "EXAMPLE.invalid."])
async def test_names_that_are_not_in_the_dns_are_not_asked_for(name: str) -> None:
    async with serving({"*": Node(mx=[(10, "mx.example.test")])}) as server:
        with pytest.raises(PermanentRefusal) as caught:
            await resolver_of(server).mail_exchangers(name)
    assert str(caught.value.reply.status) == "5.1.2"
    assert list(server.queries) == []


async def test_only_so_many_records_of_an_answer_are_kept_and_those_the_most_preferred() -> None:
    zones = {"many.test": Node(mx=[(number, f"mx{number}.test") for number in range(300, 0, -1)])}
    async with serving(zones) as server:
        found = await resolver_of(server).mail_exchangers("many.test")
    assert [mx.preference for mx in found.records] == list(range(1, MAX_RECORDS + 1))


async def test_equal_lookups_under_way_share_a_question() -> None:
    async with serving(ZONES) as server:
        resolver = resolver_of(server)
        answers = await asyncio.gather(*(resolver.mail_exchangers("example.test") for _ in range(50)))
    assert len(server.queries) == 1
    assert all(len(answer.records) == 2 for answer in answers)


async def test_a_caller_that_gives_up_takes_nobodys_answer_along() -> None:
    async with serving(ZONES) as server:
        resolver = resolver_of(server)
        first = asyncio.create_task(resolver.mail_exchangers("example.test"))
        second = asyncio.create_task(resolver.mail_exchangers("example.test"))
        await asyncio.sleep(0)
        first.cancel()
        assert len((await second).records) == 2


async def test_many_names_at_once() -> None:
    zones: Zones = {"*": Node(mx=[(10, "mx.inbox.test")])}
    async with serving(zones) as server:
        resolver = resolver_of(server)
        answers = await asyncio.gather(*(resolver.mail_exchangers(f"d{n}.test") for n in range(200)))
    assert len(answers) == 200


async def test_the_cache_is_bounded() -> None:
    async with serving({"*": Node(mx=[(10, "mx.inbox.test")])}) as server:
        resolver = resolver_of(server, cache_size=3)
        for number in range(10):
            await resolver.mail_exchangers(f"d{number}.test")
        await resolver.mail_exchangers("d9.test")
        await resolver.mail_exchangers("d0.test")
    assert len(server.queries) == 11


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:5353", "192.0.2.1", 5353),
        ("2001:db8::1", "2001:db8::1", 53),
        ("[2001:db8::1]:5353", "2001:db8::1", 5353),
    ],
)
def test_nameservers_are_addresses_with_or_without_a_port(text: str, address: str, port: int) -> None:
    nameserver = parse_nameserver(text)
    assert (nameserver.address, nameserver.port) == (address, port)


@pytest.mark.parametrize(
    "text", ["", "ns.example.test", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:70000", "[::1]:0"]
)
def test_anything_else_is_no_nameserver_and_the_error_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="nameserver"):
        DnsResolver([text])


@pytest.mark.parametrize(
    "wire", [b"", b"\x00" * 12, b"\xff" * 40, b"\x00\x01\x80\x00\x00\x01" + b"\x00" * 11]
)
async def test_the_tiny_server_is_silent_about_what_is_no_query(wire: bytes) -> None:
    assert DnsServer({"*": Node()}).answer(wire, "udp") is None
