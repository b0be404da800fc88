"""What becomes of mail for a domain, zone by zone: a DNS server on the loopback interface, the real resolver,
and the stages that route and try.

Nobody answers at any host unless its row says so: what was tried is then all that would ever be, in its
order, and the outcome is 451 4.4.1. A row with an outcome of its own ends there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest

from empath.domain.errors import PermanentRefusal, TransientRefusal
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.net.resolver import DnsResolver
from empath.pipeline.dead_hosts import DEAD_FOR
from empath.pipeline.mail_hosts import ToExchangers
from empath.ports import Endpoint, QueueName
from empath.testing.clock import SequentialIds
from empath.testing.dns_server import serving
from empath.testing.memory_dialer import ACCEPTED, ScriptedChannel, ScriptedDialer
from empath.testing.relay import HOSTNAME, MemoryRelay
from empath.testing.zones import Node

NOBODY_THERE = "451 4.4.1"
A, B, C = "93.184.216.1", "93.184.216.2", "93.184.216.3"
A6, B6 = "2606:2800:220:1::1", "2606:2800:220:1::2"
HOST = {"mx.test": Node(a=[A])}
HOSTS = {"a.test": Node(a=[A]), "b.test": Node(a=[B]), "c.test": Node(a=[C])}
LONG = [(number, f"mx{number}.a-rather-long-name-that-fills-an-answer-soon.test") for number in range(1, 90)]


class SilentDialer(ScriptedDialer):
    """A next hop answers only when it is scripted."""

    async def connect(self, endpoint: Endpoint, *, deadline: float) -> ScriptedChannel:
        if endpoint.host not in self.hosts:
            refused = Reply.of(451, "4.4.1", f"Connection to {endpoint} failed: Connection refused")
            self.host(endpoint.host).refusal = TransientRefusal(refused, Reason.CONNECTION_FAILED)
        return await ScriptedDialer.connect(self, endpoint, deadline=deadline)


@dataclass(frozen=True)
class Row:
    story: str
    zones: Mapping[str, Node]
    tried: Sequence[str | set[str]] = ()
    """`host address`, in order; a set is in any order."""
    outcome: str = NOBODY_THERE
    to: str = "example.test"
    alive: tuple[str, ...] = ()
    policy: Mapping[str, Any] = field(default_factory=dict)
    asked: str | None = None
    """A question, and how it must have come."""


def mx(*records: tuple[int, str], **more: Any) -> dict[str, Node]:
    return {"example.test": Node(mx=records, **more)}


def refused(story: str, *, a: Sequence[str] = (), aaaa: Sequence[str] = ()) -> Row:
    zones = mx((10, "mx.test")) | {"mx.test": Node(a=a, aaaa=aaaa)}
    return Row(f"refused address: {story}", zones, outcome="550 5.4.4")


ROWS = [
    # Which hosts
    Row("one exchanger", mx((10, "mx.test")) | HOST, [f"mx.test {A}"]),
    Row("it answers", mx((10, "mx.test")) | HOST, [f"mx.test {A}"], outcome="250 2.0.0", alive=("mx.test",)),
    Row(
        "by preference, whatever their order",
        mx((30, "c.test"), (5, "a.test"), (20, "b.test")) | HOSTS,
        [f"a.test {A}", f"b.test {B}", f"c.test {C}"],
    ),
    Row(
        "equal preference in any order",
        mx((10, "a.test"), (10, "b.test"), (20, "c.test")) | HOSTS,
        [{f"a.test {A}", f"b.test {B}"}, f"c.test {C}"],
    ),
    Row(
        "a dead first host",
        mx((10, "a.test"), (20, "b.test")) | HOSTS,
        [f"a.test {A}", f"b.test {B}"],
        outcome="250 2.0.0",
        alive=("b.test",),
    ),
    Row(
        "a first host without an address",
        mx((10, "nosuch.test"), (20, "b.test")) | HOSTS,
        [f"b.test {B}"],
    ),
    Row(
        "a first host whose zone is lame",
        mx((10, "lame.test"), (20, "b.test")) | HOSTS | {"lame.test": Node(fault="refused")},
        [f"b.test {B}"],
    ),
    Row(
        "only a host whose zone is lame",
        mx((10, "l.test")) | {"l.test": Node(fault="refused")},
        [],
        "451 4.4.3",
    ),
    Row(
        "hosts without addresses, and one that may have some later",
        mx((10, "nosuch.test"), (20, "l.test")) | {"l.test": Node(fault="servfail")},
        outcome="451 4.4.3",
    ),
    Row("the same host twice", mx((10, "mx.test"), (20, "MX.test")) | HOST, [f"mx.test {A}"]),
    Row("names in mixed case", {"example.test": Node(mx=[(10, "Mx.TEST")])} | HOST, [f"mx.test {A}"]),
    Row("a recipient in mixed case", mx((10, "mx.test")) | HOST, [f"mx.test {A}"], to="eXample.TEST"),
    Row(
        "at most five addresses",
        mx((10, "mx.test"), (20, "b.test"))
        | HOSTS
        | {"mx.test": Node(a=[f"93.184.216.{last}" for last in range(11, 16)])},
        [{f"mx.test 93.184.216.{last}" for last in range(11, 16)}],
    ),
    # No MX
    Row("no MX: the domain itself", {"example.test": Node(a=[A])}, [f"example.test {A}"]),
    Row("no MX, IPv6 only", {"example.test": Node(aaaa=[A6])}, [f"example.test {A6}"]),
    Row("neither MX nor address", {"example.test": Node()}, outcome="550 5.4.4"),
    Row("MX whose host has no data", mx((10, "mx.test"), a=[A]) | {"mx.test": Node()}, outcome="550 5.4.4"),
    Row("MX whose host does not exist", mx((10, "nosuch.test"), a=[A]), outcome="550 5.4.4"),
    # Null MX (RFC 7505)
    Row("null MX", mx((0, ""), a=[A]), outcome="556 5.1.10"),
    Row("null MX with another preference", mx((10, "")), outcome="556 5.1.10"),
    Row("null MX beside others", mx((0, ""), (10, "mx.test")) | HOST, [f"mx.test {A}"]),
    # CNAME
    Row(
        "CNAME to a domain with MX",
        {"example.test": Node(cname="real.test"), "real.test": Node(mx=[(10, "mx.test")])} | HOST,
        [f"mx.test {A}"],
    ),
    Row(
        "CNAME to a host",
        {"example.test": Node(cname="mx.test")} | HOST,
        [f"mx.test {A}"],
    ),
    Row(
        "a chain of CNAMEs",
        {f"c{n}.test": Node(cname=f"c{n + 1}.test") for n in range(6)}
        | {"c6.test": Node(mx=[(10, "mx.test")])}
        | HOST,
        [f"mx.test {A}"],
        to="c0.test",
    ),
    Row(
        "a chain that a server gives in pieces",
        {f"c{n}.test": Node(cname=f"c{n + 1}.test") for n in range(20)}
        | {"c20.test": Node(mx=[(10, "mx.test")])}
        | HOST,
        [f"mx.test {A}"],
        to="c0.test",
    ),
    Row(
        "a chain without an end in sight",
        {f"c{n}.test": Node(cname=f"c{n + 1}.test") for n in range(200)},
        outcome="451 4.4.3",
        to="c0.test",
    ),
    Row(
        "CNAMEs in a circle",
        {"example.test": Node(cname="b.test"), "b.test": Node(cname="example.test")},
        outcome="451 4.4.3",
    ),
    Row("CNAME to itself", {"example.test": Node(cname="example.test")}, outcome="451 4.4.3"),
    Row("CNAME to nothing", {"example.test": Node(cname="nosuch.test")}, outcome="550 5.1.2"),
    Row(
        "MX to a CNAME",
        mx((10, "alias.test")) | {"alias.test": Node(cname="mx.test")} | HOST,
        [f"alias.test {A}"],
    ),
    Row(
        "MX to a CNAME in a circle",
        mx((10, "alias.test")) | {"alias.test": Node(cname="alias.test")},
        outcome="451 4.4.3",
    ),
    # Ourselves
    Row("our own name alone", mx((10, HOSTNAME)), outcome="554 5.4.6"),
    Row("our own name first", mx((10, HOSTNAME), (20, "a.test")) | HOSTS, outcome="554 5.4.6"),
    Row(
        "our own name behind others",
        mx((10, "a.test"), (20, HOSTNAME.upper()), (20, "b.test"), (30, "c.test")) | HOSTS,
        [f"a.test {A}"],
    ),
    Row("our own name beside an equal", mx((10, "a.test"), (10, HOSTNAME)) | HOSTS, outcome="554 5.4.6"),
    Row("our own name without MX", {HOSTNAME: Node(a=[A])}, outcome="554 5.4.6", to=HOSTNAME),
    Row(
        "an alias of our own name without MX",
        {"example.test": Node(cname=HOSTNAME), HOSTNAME: Node(a=[A])},
        outcome="554 5.4.6",
    ),
    # Addresses, by policy
    Row("IPv6 only", mx((10, "mx.test")) | {"mx.test": Node(aaaa=[A6])}, [f"mx.test {A6}"]),
    Row(
        "IPv4 first, host by host",
        mx((10, "a.test"), (20, "b.test"))
        | {"a.test": Node(a=[A], aaaa=[A6]), "b.test": Node(a=[B], aaaa=[B6])},
        [f"a.test {A}", f"a.test {A6}", f"b.test {B}", f"b.test {B6}"],
    ),
    Row(
        "IPv6 first where policy says so",
        mx((10, "mx.test")) | {"mx.test": Node(a=[A], aaaa=[A6])},
        [f"mx.test {A6}", f"mx.test {A}"],
        policy={"addresses": "ipv6_first"},
    ),
    Row(
        "IPv4 only where policy says so",
        mx((10, "mx.test"), (20, "b.test")) | {"mx.test": Node(a=[A], aaaa=[A6]), "b.test": Node(aaaa=[B6])},
        [f"mx.test {A}"],
        policy={"addresses": "ipv4_only"},
    ),
    Row(
        "IPv4 only, and there is none",
        mx((10, "mx.test")) | {"mx.test": Node(aaaa=[A6])},
        outcome="550 5.4.4",
        policy={"addresses": "ipv4_only"},
    ),
    Row(
        "one kind of address is in trouble",
        mx((10, "mx.test")) | {"mx.test": Node(a=[A], fault="servfail", fault_types=("AAAA",))},
        [f"mx.test {A}"],
    ),
    # Addresses that are not of the global Internet
    refused("this network", a=["0.0.0.0"]),
    refused("this network, another", a=["0.1.2.3"]),
    refused("loopback", a=["127.0.0.1"]),
    refused("private", a=["10.0.0.1", "172.16.0.1", "192.168.0.1"]),
    refused("shared between carriers", a=["100.64.0.1"]),
    refused("link-local", a=["169.254.1.1"]),
    refused("metadata", a=["169.254.169.254"]),
    refused("documentation", a=["192.0.2.1", "198.51.100.1", "203.0.113.1"]),
    refused("multicast and broadcast", a=["224.0.0.1", "255.255.255.255"]),
    refused("unspecified", aaaa=["::"]),
    refused("loopback in IPv6", aaaa=["::1"]),
    refused("IPv4-mapped loopback", aaaa=["::ffff:127.0.0.1"]),
    refused("IPv4-mapped private", aaaa=["::ffff:10.0.0.1"]),
    refused("IPv4-mapped metadata", aaaa=["::ffff:169.254.169.254"]),
    refused("IPv4-compatible", aaaa=["::10.0.0.1"]),
    refused("NAT64 of a private address", aaaa=["64:ff9b::10.0.0.1"]),
    refused("NAT64 of the metadata address", aaaa=["64:ff9b::a9fe:a9fe"]),
    refused("local NAT64", aaaa=["64:ff9b:1::8.8.8.8"]),
    refused("6to4 of a loopback address", aaaa=["2002:7f00:1::1"]),
    refused("Teredo", aaaa=["2001:0:4136:e378:8000:63bf:3fff:fdd2"]),
    refused("link-local in IPv6", aaaa=["fe80::1"]),
    refused("site-local", aaaa=["fec0::1"]),
    refused("unique local", aaaa=["fd12:3456:789a::1"]),
    refused("metadata in IPv6", aaaa=["fd00:ec2::254"]),
    refused("documentation in IPv6", aaaa=["2001:db8::1", "3fff::1"]),
    refused("multicast in IPv6", aaaa=["ff02::1"]),
    Row(
        "NAT64 of a public address",
        mx((10, "mx.test")) | {"mx.test": Node(aaaa=[f"64:ff9b::{A}"])},
        ["mx.test 64:ff9b::5db8:d801"],
    ),
    Row(
        "a private address among public ones",
        mx((10, "mx.test"), (20, "b.test"))
        | {"mx.test": Node(a=["10.0.0.1", A])}
        | {"b.test": Node(a=["10.0.0.2"])},
        [f"mx.test {A}"],
    ),
    Row(
        "a private address that policy allows",
        mx((10, "mx.test")) | {"mx.test": Node(a=["10.0.0.1", "192.168.0.1"])},
        ["mx.test 10.0.0.1"],
        policy={"allow_addresses": ["10.0.0.0/8"]},
    ),
    Row("an address literal", {}, [f"[{A}] {A}"], to=f"[{A}]"),
    Row("a private address literal", {}, outcome="550 5.4.4", to="[10.0.0.1]"),
    Row("a metadata address literal in IPv6", {}, outcome="550 5.4.4", to="[IPv6:fd00:ec2::254]"),
    # Names
    Row("MX to an address as a name", mx((10, "93.184.216.1")), outcome="550 5.4.4"),
    Row("MX to an address literal", mx((10, "[93.184.216.1]")), outcome="550 5.4.4"),
    Row("MX to a name with a space", mx((10, "mx\\032evil.test")), outcome="550 5.4.4"),
    Row("MX to a name with a line end", mx((10, "mx\\013\\010evil.test")), outcome="550 5.4.4"),
    Row("an odd name beside a good one", mx((5, "a\\032b.test"), (10, "mx.test")) | HOST, [f"mx.test {A}"]),
    Row("a name with an underscore", mx((10, "mx_1.test")) | {"mx_1.test": Node(a=[A])}, [f"mx_1.test {A}"]),
    Row("a name that is in no DNS", {"*": Node(a=[A])}, outcome="550 5.1.2", to="example.invalid"),
    Row("a label of 64 octets beyond ASCII", {}, outcome="550 5.1.2", to="ü" * 60 + ".test"),
    Row("an emoji, which IDNA has none of", {}, outcome="550 5.1.2", to="☃.test"),
    Row("an onion", {}, outcome="550 5.1.2", to="expyuzz4wqqyqhjn.onion"),
    Row("the top level alone", {"test": Node()}, outcome="550 5.4.4", to="test"),
    Row("IDN", {"xn--bcher-kva.test": Node(mx=[(10, "mx.test")])} | HOST, [f"mx.test {A}"], to="bücher.test"),
    Row(
        "IDN in capitals", {"xn--bcher-kva.test": Node(a=[A])}, [f"xn--bcher-kva.test {A}"], to="BÜCHER.test"
    ),
    Row(
        "IDN with a full stop of its own",
        {"xn--fiq228c.test": Node(a=[A])},
        [f"xn--fiq228c.test {A}"],
        to="中文。test",
    ),
    # Servers
    Row("NXDOMAIN", {}, outcome="550 5.1.2"),
    Row("SERVFAIL", mx((10, "mx.test"), fault="servfail") | HOST, outcome="451 4.4.3"),
    Row("lame: REFUSED", mx((10, "mx.test"), fault="refused") | HOST, outcome="451 4.4.3"),
    Row("NOTIMP", mx((10, "mx.test"), fault="notimp") | HOST, outcome="451 4.4.3"),
    Row("silence", mx((10, "mx.test"), fault="drop") | HOST, outcome="451 4.4.3"),
    Row("garbage", mx((10, "mx.test"), fault="garbage") | HOST, outcome="451 4.4.3"),
    Row("FORMERR", mx((10, "mx.test"), fault="formerr") | HOST, outcome="451 4.4.3"),
    Row(
        "an answer too large for UDP",
        mx(*LONG) | {LONG[0][1]: Node(a=[A])},
        [f"{LONG[0][1]} {A}"],
        asked="example.test MX tcp",
    ),
]


async def deliver(row: Row, *, seed: int = 0) -> tuple[list[str], str, list[str]]:
    """What was tried, the outcome, and the questions that were asked."""
    dialer = SilentDialer()
    for host in row.alive:
        dialer.host(host).outcome = ACCEPTED
    async with serving(row.zones) as server:
        resolver = DnsResolver([server.nameserver], query_timeout=0.1, lookup_timeout=0.3)
        relay = MemoryRelay(dialer=dialer, resolver=resolver, ids=SequentialIds(seed))
        relay.control.items["*"] = row.policy
        await relay.submit("ann@a.test", [f"bob@{row.to}"])
        assert await relay.work(QueueName.ACCEPTED)
        await relay.work(QueueName.DELIVERY)
        asked = [" ".join(query) for query in server.queries]
    (record,) = relay.ledger.all_deliveries()
    (recipient,) = record.recipients.values()
    assert recipient.reply is not None
    tried = [f"{endpoint.host} {endpoint.address}" for endpoint in dialer.endpoints]
    return tried, f"{recipient.reply.code} {recipient.reply.status}", asked


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.story)
async def test_mail_goes_where_its_zone_says(row: Row) -> None:
    tried, outcome, asked = await deliver(row)
    assert outcome == row.outcome
    for expected in row.tried:
        if isinstance(expected, str):
            assert tried.pop(0) == expected
        else:
            some, tried = tried[: len(expected)], tried[len(expected) :]
            assert set(some) == expected
    assert tried == []
    assert row.asked is None or row.asked in asked


def test_there_are_enough_rows_and_none_twice() -> None:
    assert len(ROWS) >= 30
    assert len({row.story for row in ROWS}) == len(ROWS)


async def test_equal_preferences_share_the_load() -> None:
    (row,) = (row for row in ROWS if row.story == "equal preference in any order")
    first = [(await deliver(row, seed=seed))[0][0] for seed in range(12)]
    assert set(first) == {f"a.test {A}", f"b.test {B}"}


async def test_a_host_that_did_not_answer_is_no_message_s_first_try_for_some_minutes() -> None:
    dialer = SilentDialer()
    dialer.host("b.test").outcome = ACCEPTED
    async with serving(mx((10, "a.test"), (20, "b.test")) | HOSTS) as server:
        relay = MemoryRelay(dialer=dialer, resolver=DnsResolver([server.nameserver]))
        relay.control.items["*"] = {}
        tried = []
        for wait in (0, DEAD_FOR.total_seconds() - 1, 1):
            relay.clock.advance(wait)
            await relay.submit("ann@a.test", ["bob@example.test"])
            assert await relay.work(QueueName.ACCEPTED)
            assert await relay.work(QueueName.DELIVERY)
            tried.append([endpoint.host for endpoint in dialer.endpoints])
            dialer.endpoints.clear()
    assert tried == [["a.test", "b.test"], ["b.test"], ["a.test", "b.test"]]


@pytest.mark.parametrize("secure", [True, False])
async def test_what_dnssec_proved_is_kept_with_the_attempt(*, secure: bool) -> None:
    dialer = SilentDialer()
    dialer.host("mx.test").outcome = ACCEPTED
    async with serving(mx((10, "mx.test"), secure=secure) | HOST) as server:
        relay = MemoryRelay(dialer=dialer, resolver=DnsResolver([server.nameserver]))
        relay.control.items["*"] = {}
        await relay.submit("ann@a.test", ["bob@example.test"])
        assert await relay.work(QueueName.ACCEPTED)
        assert await relay.work(QueueName.DELIVERY)
    (record,) = relay.ledger.all_deliveries()
    (attempt,) = record.attempts
    assert attempt.dnssec is (True if secure else None)


async def test_a_route_to_one_of_our_own_addresses_is_a_loop() -> None:
    async with serving(mx((10, "a.test"), (20, "b.test"), (30, "c.test")) | HOSTS) as server:
        resolver = DnsResolver([server.nameserver])
        ids = SequentialIds()
        ours = ToExchangers(resolver, SilentDialer(), ids, HOSTNAME, [ip_network(f"{B}/32")])
        found = await ours.find("example.test", DomainPolicy())
        assert [endpoint.host async for endpoint in found.endpoints()] == ["a.test"]
        ours = ToExchangers(resolver, SilentDialer(), ids, HOSTNAME, [ip_network(f"{A}/32")])
        found = await ours.find("example.test", DomainPolicy())
        with pytest.raises(PermanentRefusal, match=r"5\.4\.6"):
            assert [endpoint async for endpoint in found.endpoints()] == []
