"""Routes to hosts that an operator named: other relays (smarthosts) and mail stores (LMTP).

Such a host is a setting, so what is wrong with it (no address, one that may not be used, no login) costs
time and never mail: where an exchanger's fault would end a delivery, it waits.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from empath.domain.errors import PermanentRefusal, Refusal, TransientRefusal
from empath.domain.outcome import Failed, outcome_of_refusal
from empath.domain.policy import DomainPolicy
from empath.domain.route import LmtpRoute, RouteHost, SmarthostRoute
from empath.pipeline.dead_hosts import DeadHosts
from empath.pipeline.mail_hosts import MailHosts
from empath.pipeline.routing import MAX_ADDRESSES_PER_ATTEMPT, Route, endpoints_of
from empath.pipeline.secret_memory import SecretMemory, unusable
from empath.ports import Dialer, Endpoint, Handover, IdSource, Resolver, Transaction


@dataclass(frozen=True, slots=True)
class ToSmarthost:
    """Route `smarthost`."""

    resolver: Resolver
    dialer: Dialer
    ids: IdSource
    secrets: SecretMemory
    dead: DeadHosts | None = None

    async def find(self, destination: str, policy: DomainPolicy) -> MailHosts:
        settings = policy.route
        if not isinstance(settings, SmarthostRoute):
            raise TypeError(f"not the settings of a smarthost: {settings!r}")
        if settings.secret is not None and policy.tls != "verified":
            # A password is not for whoever can take STARTTLS away, or show any certificate, as would do for
            # `required`, too. Who wants it so says `accept_invalid_certs`.
            policy = policy.model_copy(update={"tls": "verified"})

        async def endpoints() -> AsyncIterator[Endpoint]:
            credentials = await self.secrets.credentials(settings.secret) if settings.secret else None
            hosts = _in_order(settings.hosts, self.ids)
            async for endpoint in _endpoints(hosts, settings.default_port, policy, self.resolver, self.dead):
                yield replace(
                    endpoint, implicit_tls=settings.encryption == "implicit", credentials=credentials
                )

        return _Relay(_site(settings.hosts, settings.default_port, "smtp"), endpoints, self.dialer, self.dead)


@dataclass(frozen=True, slots=True)
class _Relay(MailHosts):
    """A smarthost. 530 says that it wants a login (RFC 4954 §6) or TLS (RFC 3207 §4) before any mail, which
    is a matter of the route's settings and no word about the mail."""

    async def deliver(self, transaction: Transaction, *, time_left: Callable[[], float]) -> Handover:
        done = await MailHosts.deliver(self, transaction, time_left=time_left)
        outcomes = {
            address: outcome_of_refusal(
                unusable(f"the smarthost wants a login or TLS first: {outcome.reply}")
            )
            if isinstance(outcome, Failed) and outcome.reply.code == 530
            else outcome
            for address, outcome in done.outcomes.items()
        }
        return replace(done, outcomes=outcomes)


@dataclass(frozen=True, slots=True)
class ToStore:
    """Route `lmtp`."""

    resolver: Resolver
    dialer: Dialer
    ids: IdSource
    dead: DeadHosts | None = None

    async def find(self, destination: str, policy: DomainPolicy) -> MailHosts:
        settings = policy.route
        if not isinstance(settings, LmtpRoute):
            raise TypeError(f"not the settings of an LMTP route: {settings!r}")

        async def endpoints() -> AsyncIterator[Endpoint]:
            hosts = _in_order(settings.hosts, self.ids)
            async for endpoint in _endpoints(hosts, settings.default_port, policy, self.resolver, self.dead):
                yield replace(endpoint, protocol="lmtp")

        return MailHosts(
            _site(settings.hosts, settings.default_port, "lmtp"), endpoints, self.dialer, self.dead
        )


def _in_order(hosts: Sequence[RouteHost], ids: IdSource) -> list[RouteHost]:
    return sorted(hosts, key=lambda host: (host.preference, ids.random()))


def _site(hosts: Sequence[RouteHost], port: int, protocol: Literal["smtp", "lmtp"]) -> str:
    """A name of its own: what the same host takes as an exchanger is counted apart."""
    names = tuple(f"{protocol}://{host.host}:{host.port or port}" for host in hosts)
    return Route("", names).site


async def _endpoints(
    hosts: Sequence[RouteHost],
    port: int,
    policy: DomainPolicy,
    resolver: Resolver,
    dead: DeadHosts | None,
) -> AsyncIterator[Endpoint]:
    """The addresses of the hosts in order, at most MAX_ADDRESSES_PER_ATTEMPT; known dead ones last."""
    refusals: list[Refusal] = []
    put_off: list[Endpoint] = []
    given = 0
    for host in hosts:
        of_host = policy.model_copy(update={"port": host.port or port})
        try:
            async for endpoint in endpoints_of(Route("", (_as_exchanger(host.host),)), of_host, resolver):
                if given + len(put_off) == MAX_ADDRESSES_PER_ATTEMPT:
                    break
                named = replace(endpoint, host=host.host)
                if dead is not None and named in dead:
                    put_off.append(named)
                    continue
                given += 1
                yield named
        except Refusal as refusal:
            refusals.append(refusal)
    for endpoint in put_off:
        yield endpoint
    if not given and not put_off:
        raise _mendable(refusals[0])


def _as_exchanger(host: str) -> str:
    """A host as the routing of exchangers knows it: address-literals for addresses (RFC 5321 §4.1.3)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


def _mendable(refusal: Refusal) -> TransientRefusal:
    if isinstance(refusal, TransientRefusal):
        return refusal
    if isinstance(refusal, PermanentRefusal):
        return unusable(refusal.reply.text)
    raise AssertionError("unreachable: a refusal is transient or permanent")
