"""ports.Resolver: the zones in memory, and DNS on the loopback interface with the same zones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest
import pytest_asyncio

from empath.domain.errors import PermanentRefusal, TransientRefusal
from empath.domain.reason import Reason
from empath.net.resolver import DnsResolver
from empath.ports import MailExchanger, MailExchangers, Resolver
from empath.testing.dns_server import serving
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.zones import Node, Zones

ZONES: Zones = {
    "example.test": Node(mx=[(20, "MX2.Example.Test"), (10, "mx1.example.test")]),
    "mx1.example.test": Node(a=["192.0.2.1", "192.0.2.2"], aaaa=["2001:db8::1"]),
    "six.example.test": Node(aaaa=["2001:db8::6"]),
    "alias.test": Node(cname="further.test"),
    "further.test": Node(cname="example.test"),
    "hostalias.test": Node(cname="mx1.example.test"),
    "dangling.test": Node(cname="nosuch.test"),
    "nullmx.test": Node(mx=[(0, "")]),
    "empty.test": Node(),
    "secure.test": Node(mx=[(10, "mx1.example.test")], secure=True),
    "servfail.test": Node(fault="servfail"),
    "refused.test": Node(fault="refused"),
    "xn--bcher-kva.test": Node(mx=[(10, "mx1.example.test")], a=["192.0.2.9"]),
}


@pytest_asyncio.fixture(params=["memory", "dns"])
async def resolver(request: pytest.FixtureRequest) -> AsyncIterator[Resolver]:
    if request.param == "memory":
        yield ZoneResolver(ZONES)
        return
    async with serving(ZONES) as server:
        yield DnsResolver([server.nameserver])


async def test_mail_exchangers_are_in_lower_case_without_final_dots(resolver: Resolver) -> None:
    assert sorted((await resolver.mail_exchangers("example.test")).records) == [
        MailExchanger(10, "mx1.example.test"),
        MailExchanger(20, "mx2.example.test"),
    ]


async def test_names_have_no_case(resolver: Resolver) -> None:
    assert len((await resolver.mail_exchangers("Example.TEST")).records) == 2


async def test_cnames_are_followed(resolver: Resolver) -> None:
    found = await resolver.mail_exchangers("alias.test")
    assert (len(found.records), found.name) == (2, "example.test")
    assert set(await resolver.addresses("hostalias.test")) == {
        *map(ip_address, ("192.0.2.1", "192.0.2.2", "2001:db8::1"))
    }


async def test_a_null_mx_is_the_root(resolver: Resolver) -> None:
    assert (await resolver.mail_exchangers("nullmx.test")).records == (MailExchanger(0, ""),)


async def test_a_domain_without_mx_has_an_empty_answer(resolver: Resolver) -> None:
    for name in ("empty.test", "mx1.example.test"):
        assert await resolver.mail_exchangers(name) == MailExchangers((), name)


async def test_an_alias_without_mx_is_what_it_leads_to(resolver: Resolver) -> None:
    assert await resolver.mail_exchangers("hostalias.test") == MailExchangers((), "mx1.example.test")


async def test_what_dnssec_has_proved_is_told(resolver: Resolver) -> None:
    assert (await resolver.mail_exchangers("secure.test")).authenticated
    assert not (await resolver.mail_exchangers("example.test")).authenticated


@pytest.mark.parametrize(
    "domain",
    [
        "nosuch.test",
        "dangling.test",
        "a..test",
        ".",
        "",
        "x" * 64 + ".test",
        ".".join(["x" * 60] * 5),
        "☃.test",
    ],
)
async def test_a_domain_that_does_not_or_cannot_exist_is_refused_for_good(
    resolver: Resolver, domain: str
) -> None:
    with pytest.raises(PermanentRefusal) as caught:
        await resolver.mail_exchangers(domain)
    assert (caught.value.reply.code, str(caught.value.reply.status)) == (550, "5.1.2")
    assert caught.value.reason is Reason.NO_SUCH_DOMAIN


async def test_the_refusal_names_the_domain(resolver: Resolver) -> None:
    with pytest.raises(PermanentRefusal, match=r"Domain nosuch\.test does not exist"):
        await resolver.mail_exchangers("nosuch.test")


@pytest.mark.parametrize("domain", ["servfail.test", "refused.test"])
async def test_no_usable_answer_is_for_later(resolver: Resolver, domain: str) -> None:
    for lookup in (resolver.mail_exchangers, resolver.addresses):
        with pytest.raises(TransientRefusal) as caught:
            await lookup(domain)
        assert (caught.value.reply.code, str(caught.value.reply.status)) == (451, "4.4.3")
        assert caught.value.reason is Reason.DNS_TROUBLE


async def test_ipv4_addresses_come_before_ipv6_ones(resolver: Resolver) -> None:
    assert [address.version for address in await resolver.addresses("mx1.example.test")] == [4, 4, 6]
    assert await resolver.addresses("six.example.test") == [ip_address("2001:db8::6")]


@pytest.mark.parametrize("host", ["nosuch.test", "empty.test", "a..test", "", "x" * 64, "☃.test"])
async def test_a_host_without_addresses_or_existence_has_none(resolver: Resolver, host: str) -> None:
    assert list(await resolver.addresses(host)) == []


async def test_internationalised_names_are_understood(resolver: Resolver) -> None:
    found = await resolver.mail_exchangers("bücher.test")
    assert found == MailExchangers((MailExchanger(10, "mx1.example.test"),), "xn--bcher-kva.test")
    assert await resolver.addresses("Bücher.test") == [ip_address("192.0.2.9")]
