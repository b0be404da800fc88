"""The route to mail exchangers, and the next hop that is one of several hosts, tried in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace

from empath.domain.errors import PermanentRefusal, Refusal, TransientRefusal
from empath.domain.network import IPNetwork
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.pipeline.dead_hosts import DeadHosts
from empath.pipeline.routing import endpoints_of, find_route
from empath.ports import Dialer, Endpoint, Handover, IdSource, Resolver, Transaction

NO_TIME = Reply.of(451, "4.4.1", "No time was left to connect to the next hop")


@dataclass(frozen=True, slots=True)
class MailHosts:
    """NextHop over a Dialer: what takes part in SMTP or LMTP."""

    site: str
    endpoints: Callable[[], AsyncIterator[Endpoint]]
    """What to try, in order; raises the refusal that explains why there is nothing."""
    dialer: Dialer
    dead: DeadHosts | None = None
    dnssec: bool = False
    """The hosts' names came with the AD bit."""

    async def deliver(self, transaction: Transaction, *, time_left: Callable[[], float]) -> Handover:
        refusal: Refusal | None = None
        endpoint: Endpoint | None = None
        try:
            async for endpoint in self.endpoints():
                deadline = time_left()
                if deadline <= 0:
                    break
                try:
                    channel = await self.dialer.connect(replace(endpoint, site=self.site), deadline=deadline)
                except Refusal as met:
                    # RFC 5321 §5.1: the next host may answer. Temporary words weigh more than final ones.
                    refusal = _kinder(refusal, met)
                    if self.dead is not None:
                        self.dead.note(endpoint, met)
                    continue
                if self.dead is not None:
                    self.dead.forget(endpoint)
                try:
                    done = await channel.transact(transaction)
                    return Handover(
                        done.outcomes,
                        str(endpoint),
                        channel.tls,
                        done.ambiguous,
                        done.passed_on,
                        dnssec=self.dnssec,
                    )
                finally:
                    await channel.close()
            raise refusal or TransientRefusal(NO_TIME, Reason.TIMEOUT)
        except Refusal as met:
            return Handover.refused(transaction, met, str(endpoint) if endpoint else None)


@dataclass(frozen=True, slots=True)
class ToExchangers:
    """Route `mx`: RFC 5321 §5.1."""

    resolver: Resolver
    dialer: Dialer
    ids: IdSource
    hostname: str
    own_addresses: Iterable[IPNetwork] = field(default=())
    dead: DeadHosts | None = None

    async def find(self, destination: str, policy: DomainPolicy) -> MailHosts:
        found = await find_route(destination, resolver=self.resolver, ids=self.ids, own_name=self.hostname)

        def endpoints() -> AsyncIterator[Endpoint]:
            return endpoints_of(
                found, policy, self.resolver, dead=self.dead, own_addresses=self.own_addresses
            )

        return MailHosts(found.site, endpoints, self.dialer, self.dead, found.authenticated)


def _kinder(known: Refusal | None, met: Refusal) -> Refusal:
    """The refusal that leaves more hope; of equals, the later one."""
    if isinstance(known, TransientRefusal) and isinstance(met, PermanentRefusal):
        return known
    return met
