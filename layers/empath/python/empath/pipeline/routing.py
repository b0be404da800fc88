"""From a destination to the hosts that take its mail, in the order in which they are tried.

RFC 5321 §5.1, RFC 7505 (null MX), RFC 3974 (IPv4 and IPv6). Addresses that are not globally routable
are never tried, unless the destination's policy allows them.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from empath.domain.address import address_of_literal
from empath.domain.errors import PermanentRefusal, Refusal, TransientRefusal
from empath.domain.network import IPAddress, is_allowed
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.ports import Endpoint, IdSource, MailExchanger, Resolver

MAX_ADDRESSES_PER_ATTEMPT = 5
"""As Postfix's smtp_mx_address_limit: a destination with a hundred dead hosts must not eat an hour."""

MAX_SITE_NAME = 200


@dataclass(frozen=True, slots=True)
class Route:
    """Where a destination's mail goes: its hosts in order, and the site they make up."""

    destination: str
    hosts: tuple[str, ...]

    @property
    def site(self) -> str:
        """One name for the set of hosts, shared by every domain that has the same set."""
        name = ",".join(sorted(self.hosts))
        if len(name) <= MAX_SITE_NAME:
            return name
        return f"{min(self.hosts)},+{len(self.hosts) - 1},{hashlib.sha256(name.encode()).hexdigest()[:16]}"


async def find_route(destination: str, *, resolver: Resolver, ids: IdSource, own_name: str) -> Route:
    """Look up the mail exchangers of `destination`.

    Raises PermanentRefusal for a null MX (5.1.10), a domain that does not exist (5.1.2) and a loop to
    ourselves (5.4.6), TransientRefusal (4.4.3) when DNS gives no usable answer.
    """
    if destination.startswith("["):
        return Route(destination, (destination,))
    exchangers = await resolver.mail_exchangers(destination)
    if not exchangers:
        # RFC 5321 §5.1: without MX records the domain itself is its exchanger. If that is our own name, mail
        # would come back until it has too many `Received` fields.
        exchangers = [MailExchanger(0, destination)]
    usable = [mx for mx in exchangers if mx.exchange]
    if not usable:
        raise PermanentRefusal(
            Reply.of(556, "5.1.10", f"Domain {destination} does not accept mail (null MX)"), Reason.NULL_MX
        )
    ordered = _without_loop(_in_order(usable, ids), destination, own_name.lower())
    return Route(destination, tuple(dict.fromkeys(mx.exchange for mx in ordered)))


def _in_order(exchangers: Iterable[MailExchanger], ids: IdSource) -> list[MailExchanger]:
    # RFC 5321 §5.1: equal preferences are tried in random order, so that load spreads.
    return [mx for _, _, mx in sorted((mx.preference, ids.random(), mx) for mx in exchangers)]


def _without_loop(
    ordered: Sequence[MailExchanger], destination: str, own_name: str
) -> Sequence[MailExchanger]:
    # RFC 5321 §5.1: when we are in the set, ours and all less preferred exchangers are left out.
    own = [mx.preference for mx in ordered if mx.exchange == own_name]
    if not own:
        return ordered
    better = [mx for mx in ordered if mx.preference < min(own)]
    if not better:
        raise PermanentRefusal(
            Reply.of(554, "5.4.6", f"Mail for {destination} loops back to this host ({own_name})"),
            Reason.LOOP,
        )
    return better


async def endpoints_of(route: Route, policy: DomainPolicy, resolver: Resolver) -> AsyncIterator[Endpoint]:
    """The endpoints to try, host by host, IPv4 before IPv6, at most MAX_ADDRESSES_PER_ATTEMPT.

    Names are resolved only when their turn comes. When there is nothing to try at all, raises the
    refusal that explains it: transient if any host may have an address later.
    """
    given = 0
    refusals: list[Refusal] = []
    for host in route.hosts:
        try:
            addresses = await _addresses_of(host, resolver)
        except TransientRefusal as refusal:
            refusals.append(refusal)
            continue
        allowed = [address for address in addresses if is_allowed(address, policy.allow_addresses)]
        if not allowed:
            refusals.append(_nothing_to_connect_to(host, addresses))
        for address in sorted(allowed, key=lambda address: address.version):
            if given == MAX_ADDRESSES_PER_ATTEMPT:
                return
            given += 1
            yield Endpoint(
                host=host,
                address=address,
                port=policy.port,
                tls=policy.tls,
                allow_addresses=policy.allow_addresses,
            )
    if given == 0:
        raise next((refusal for refusal in refusals if isinstance(refusal, TransientRefusal)), refusals[0])


async def _addresses_of(host: str, resolver: Resolver) -> Sequence[IPAddress]:
    if host.startswith("["):
        return [address_of_literal(host)]
    return await resolver.addresses(host)


def _nothing_to_connect_to(host: str, addresses: Sequence[IPAddress]) -> PermanentRefusal:
    if not addresses:
        return PermanentRefusal(Reply.of(550, "5.4.4", f"Host {host} has no address"), Reason.NO_ADDRESS)
    shown = ", ".join(str(address) for address in addresses[:3])
    return PermanentRefusal(
        Reply.of(550, "5.4.4", f"Host {host} has only addresses that mail may not be delivered to ({shown})"),
        Reason.ADDRESS_NOT_ALLOWED,
    )
