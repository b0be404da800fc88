"""What DNS, and this relay's own orders about it, make of a domain; and orders as an operator gives them."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from empath.control.errors import BadUsage
from empath.domain.address import check_domain
from empath.domain.errors import AddressSyntaxError, PermanentRefusal, Refusal
from empath.domain.instant import whole_milliseconds
from empath.domain.network import IPAddress, why_refused
from empath.domain.policy import DomainPolicy
from empath.net.resolver import DnsResolver, Finding
from empath.pipeline.routing import Route, endpoints_of, find_route
from empath.ports import DnsOverride, Endpoint, IdSource, MailExchanger
from empath.ports.dns_cache import read_override
from empath.smtp.domain_names import to_a_labels

PREFERENCE_STEP = 10


@dataclass(frozen=True, slots=True)
class HostAddress:
    address: IPAddress
    refused: str | None
    """What it is that no mail may go there; None when it may."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host of the route, and what was found about it."""

    name: str
    findings: Sequence[Finding]
    """Of its A and its AAAA records; none for an address literal."""
    addresses: Sequence[HostAddress]


@dataclass(frozen=True, slots=True)
class Lookup:
    """Every step from a domain to the addresses that its mail would be tried at."""

    domain: str
    policy: DomainPolicy
    mx: Finding | None
    """None for an address literal and for what is no name."""
    route: Route | None
    hosts: Sequence[Host]
    endpoints: Sequence[Endpoint]
    refusal: Refusal | None
    """What mail would come to before any connection."""


def read_domain(text: str) -> str:
    """A destination as a recipient may have it. Raises BadUsage."""
    domain = text.strip().removesuffix(".").lower()
    try:
        check_domain(domain)
    except AddressSyntaxError as error:
        raise BadUsage(f"{text!r} is no destination: {error}") from None
    return domain


def read_name(text: str) -> str:
    """A domain as shared answers and overrides are kept, in A-labels. Raises BadUsage."""
    domain = read_domain(text)
    if domain.startswith("["):
        raise BadUsage(f"{text!r} is an address: DNS has no say about it")
    try:
        return to_a_labels(domain)
    except ValueError as error:
        raise BadUsage(f"{text!r} is no domain: {error}") from None


def read_hosts(groups: Sequence[str], now: datetime) -> DnsOverride:
    """An override out of words: hosts or addresses by preference, equal ones with commas between.

    Raises BadUsage.
    """
    records = [
        str(MailExchanger(PREFERENCE_STEP * (number + 1), _host(host)))
        for number, group in enumerate(groups)
        for host in group.split(",")
    ]
    try:
        return read_override(records, whole_milliseconds(now))
    except ValueError as error:
        raise BadUsage(str(error)) from None


async def look_up(
    domain: str, resolver: DnsResolver, policy: DomainPolicy, ids: IdSource, *, own_name: str
) -> Lookup:
    """Go the way of a delivery, and keep what was seen."""
    mx: Finding | None = None
    route: Route | None = None
    hosts: list[Host] = []
    endpoints: list[Endpoint] = []
    refusal: Refusal | None = None
    try:
        if not domain.startswith("["):
            mx = await resolver.find(to_a_labels(domain), "MX")
        route = await find_route(domain, resolver=resolver, ids=ids, own_name=own_name)
        hosts = [await _host_of(name, resolver, policy) for name in route.hosts]
        endpoints = [endpoint async for endpoint in endpoints_of(route, policy, resolver)]
    except Refusal as met:
        refusal = met
    except ValueError:
        refusal = await _refusal_of(domain, resolver)
    return Lookup(domain, policy, mx, route, hosts, endpoints, refusal)


async def _refusal_of(domain: str, resolver: DnsResolver) -> Refusal | None:
    """What the resolver says of a name that cannot be."""
    try:
        await resolver.mail_exchangers(domain)
    except PermanentRefusal as refusal:
        return refusal
    return None


async def _host_of(name: str, resolver: DnsResolver, policy: DomainPolicy) -> Host:
    if name.startswith("["):
        literal = ipaddress.ip_address(name[1:-1].lower().removeprefix("ipv6:"))
        return Host(name, (), (HostAddress(literal, why_refused(literal, policy.allow_addresses)),))
    findings = [await resolver.find(name, "A"), await resolver.find(name, "AAAA")]
    records = [record for finding in findings if finding.answer for record in finding.answer.records]
    addresses = [ipaddress.ip_address(record) for record in records]
    return Host(
        name,
        findings,
        [HostAddress(address, why_refused(address, policy.allow_addresses)) for address in addresses],
    )


def _host(text: str) -> str:
    """A host of an override: a name in A-labels, or an address as a literal."""
    word = text.strip()
    try:
        address = ipaddress.ip_address(word.removeprefix("[").removesuffix("]").lower().removeprefix("ipv6:"))
    except ValueError:
        try:
            return to_a_labels(word)
        except ValueError as error:
            raise BadUsage(f"{text!r} is neither a host nor an address: {error}") from None
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"
