"""From a destination to the hosts that take its mail, in the order in which they are tried.

RFC 5321 §5.1, RFC 7505 (null MX), RFC 3974 (IPv4 and IPv6). Addresses that are not globally routable
are never tried, unless the destination's policy allows them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from empath.domain.address import address_of_literal
from empath.domain.errors import PermanentRefusal, Refusal, TransientRefusal
from empath.domain.host_name import is_host_name
from empath.domain.network import IPAddress, IPNetwork, is_allowed
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.pipeline.dead_hosts import DeadHosts
from empath.ports import Endpoint, IdSource, MailExchanger, Resolver

MAX_ADDRESSES_PER_ATTEMPT = 5
"""As Postfix's smtp_mx_address_limit: a destination with a hundred dead hosts must not eat an hour."""

MAX_SITE_NAME = 200


@dataclass(frozen=True, slots=True)
class Route:
    """Where a destination's mail goes: its hosts in order, and the site they make up."""

    destination: str
    hosts: tuple[str, ...]
    authenticated: bool = False
    """The hosts' names were checked by DNSSEC, as the name server says."""
    overridden: bool = False
    """An operator named the hosts."""

    @property
    def site(self) -> str:
        """One name for the set of hosts, shared by every domain that has the same set."""
        name = ",".join(sorted(self.hosts))
        if len(name) <= MAX_SITE_NAME:
            return name
        return f"{min(self.hosts)},+{len(self.hosts) - 1},{hashlib.sha256(name.encode()).hexdigest()[:16]}"


async def find_route(destination: str, *, resolver: Resolver, ids: IdSource, own_name: str) -> Route:
    """Look up the mail exchangers of `destination`.

    Raises PermanentRefusal for a null MX (5.1.10), a domain that does not exist (5.1.2), exchangers that
    are no host names (5.4.4) and a loop to ourselves (5.4.6), TransientRefusal (4.4.3) when DNS gives no
    usable answer.
    """
    if destination.startswith("["):
        return Route(destination, (destination,))
    found = await resolver.mail_exchangers(destination)
    # RFC 5321 §5.1: without MX records the domain itself is its exchanger, or what its CNAME leads to. If
    # that is our own name, mail would come back until it has too many `Received` fields.
    exchangers = found.records or (MailExchanger(0, found.name),)
    # RFC 7505 §3 knows a null MX alone only. Beside others it is a host without a name, and passed over.
    named = [mx for mx in exchangers if mx.exchange]
    if not named:
        raise PermanentRefusal(
            Reply.of(556, "5.1.10", f"Domain {destination} does not accept mail (null MX)"), Reason.NULL_MX
        )
    usable = [mx for mx in named if found.overridden or is_host_name(mx.exchange)]
    if not usable:
        raise PermanentRefusal(
            Reply.of(550, "5.4.4", f"The mail exchangers of {destination} are no host names"),
            Reason.NO_ADDRESS,
        )
    ordered = _without_loop(_in_order(usable, ids), destination, own_name.lower().removesuffix("."))
    hosts = tuple(dict.fromkeys(mx.exchange for mx in ordered))
    return Route(destination, hosts, authenticated=found.authenticated, overridden=found.overridden)


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
        raise _loop(destination, own_name)
    return better


async def endpoints_of(
    route: Route,
    policy: DomainPolicy,
    resolver: Resolver,
    *,
    dead: DeadHosts | None = None,
    own_addresses: Iterable[IPNetwork] = (),
) -> AsyncIterator[Endpoint]:
    """The endpoints to try, host by host, in the order of policy, at most MAX_ADDRESSES_PER_ATTEMPT.

    Names are resolved only when their turn comes, or all at once when one is in trouble. What is known to be
    `dead` comes last. A host with one of our own addresses ends the list: it and who is less preferred would
    send the mail back. When there is nothing to try at all, raises the refusal that explains it: transient if
    any host may have an address later.
    """
    own = tuple(own_addresses)
    given = 0
    put_off: list[Endpoint] = []
    refusals: list[Refusal] = []
    is_all_asked = False
    for number, host in enumerate(route.hosts, 1):
        try:
            addresses = await _addresses_of(host, resolver)
        except TransientRefusal as refusal:
            refusals.append(refusal)
            if not is_all_asked:
                # A hundred hosts in a zone whose servers are dead must not be waited for one by one.
                await asyncio.gather(
                    *(_addresses_of(other, resolver) for other in route.hosts[number:]),
                    return_exceptions=True,
                )
                is_all_asked = True
            continue
        if any(address in network for address in addresses for network in own):
            refusals.append(_loop(route.destination, host))
            break
        allowed = [address for address in addresses if is_allowed(address, policy.allow_addresses)]
        usable = policy.addresses.order(allowed)
        if not usable:
            refusals.append(_nothing_to_connect_to(host, allowed or addresses, is_wrong_kind=bool(allowed)))
        for address in usable:
            if given == MAX_ADDRESSES_PER_ATTEMPT:
                return
            endpoint = Endpoint(
                host=host,
                address=address,
                port=policy.port,
                tls=policy.tls,
                allow_addresses=policy.allow_addresses,
                tls_name=policy.tls_name,
                accept_invalid_certs=policy.accept_invalid_certs,
                messages_per_connection=policy.messages_per_connection,
                is_counted=policy.max_connections is not None,
            )
            if dead is not None and endpoint in dead:
                put_off.append(endpoint)
                continue
            given += 1
            yield endpoint
    for endpoint in put_off[: MAX_ADDRESSES_PER_ATTEMPT - given]:
        yield endpoint
    if given == 0 and not put_off:
        raise next((refusal for refusal in refusals if isinstance(refusal, TransientRefusal)), refusals[0])


async def _addresses_of(host: str, resolver: Resolver) -> Sequence[IPAddress]:
    if host.startswith("["):
        return [address_of_literal(host)]
    return await resolver.addresses(host)


def _nothing_to_connect_to(
    host: str, addresses: Sequence[IPAddress], *, is_wrong_kind: bool
) -> PermanentRefusal:
    if not addresses:
        return PermanentRefusal(Reply.of(550, "5.4.4", f"Host {host} has no address"), Reason.NO_ADDRESS)
    shown = ", ".join(str(address) for address in addresses[:3])
    if is_wrong_kind:
        text = f"Host {host} has only addresses of the kind that policy leaves out ({shown})"
        return PermanentRefusal(Reply.of(550, "5.4.4", text), Reason.NO_ADDRESS)
    return PermanentRefusal(
        Reply.of(550, "5.4.4", f"Host {host} has only addresses that mail may not be delivered to ({shown})"),
        Reason.ADDRESS_NOT_ALLOWED,
    )


def _loop(destination: str, host: str) -> PermanentRefusal:
    text = f"Mail for {destination} loops back to this host ({host})"
    return PermanentRefusal(Reply.of(554, "5.4.6", text), Reason.LOOP)
