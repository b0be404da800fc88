"""What a process knows of DNS: overrides, its own memory, what others shared, and only then a question.

    override   an operator said where a domain's mail goes, and DNS has no say
    memory     an answer of this process, within its TTL
    shared     an answer of another process, out of the control table (MX only)
    asked      a name server's
    stale      one past its TTL, because no name server gave another (RFC 8767)

What the records mean for a delivery (null MX, preference, fallback to addresses) is not known here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Literal

from empath.domain.errors import ControlTrouble, PermanentRefusal, TransientRefusal
from empath.domain.network import IPAddress
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.net.dns_memory import NOTHING, AnswerMemory, Known, forget_at, lifetime_of
from empath.net.nameserver import parse_nameserver
from empath.ports import DnsAnswer, DnsCache, DnsOrders, DnsOverride, MailExchanger, MailExchangers
from empath.ports.dns_cache import RecordType
from empath.smtp.domain_names import to_a_labels

if TYPE_CHECKING:
    from empath.net.dns_client import DnsClient

CACHE_SIZE = 10_000  # answers; about 1 kB each
QUERY_TIMEOUT = 3.0  # seconds for one nameserver to answer
LOOKUP_TIMEOUT = 12.0  # seconds for all tries; the delivery's retry does the waiting beyond that
STALE_PATIENCE = 1.8  # seconds to wait for a fresh answer when there is a stale one (RFC 8767 §5)

SHARED_FROM = timedelta(seconds=60)
"""Answers that are good for less are not shared: they would be written more often than read."""

STORE_TIMEOUT = 1.0  # seconds for the shared cache to answer: DNS itself is not much slower
STORE_PAUSE = timedelta(seconds=30)
"""How long a shared cache that failed is left alone."""

NEVER_ASKED = frozenset({"onion", "alt", "invalid"})
"""Top-level names that are not in the DNS (RFC 7686 §2, RFC 9476 §2, RFC 6761 §6.4)."""

_ADDRESSES: tuple[RecordType, ...] = ("A", "AAAA")

Source = Literal["override", "memory", "shared", "asked", "stale"]
Sharing = Literal["both", "read", "none"]

logger = logging.getLogger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known about a name, and where from; `trouble` says why there is no (fresh) answer."""

    name: str
    rdtype: RecordType
    source: Source
    answer: DnsAnswer | None
    trouble: str | None = None


class DnsResolver:
    """Resolver over the given nameservers, or the system's when none are given.

    One per process; safe for any number of concurrent lookups, of which equal ones share a question.
    """

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        *,
        cache: DnsCache | None = None,
        sharing: Sharing = "both",
        now: Callable[[], datetime] = _utc_now,
        query_timeout: float = QUERY_TIMEOUT,
        lookup_timeout: float = LOOKUP_TIMEOUT,
        cache_size: int = CACHE_SIZE,
    ) -> None:
        """`nameservers` are `address`, `address:port` or `[IPv6 address]:port`.

        `cache` has the overrides, and unless `sharing` is "none" shared answers, too; with "read" none are
        added. Timeouts are in seconds. Raises ValueError for what is no nameserver, names of them too.
        """
        self._nameservers = [parse_nameserver(text) for text in nameservers]
        self._cache = cache
        self._sharing = sharing
        self._now = now
        self._query_timeout = query_timeout
        self._lookup_timeout = lookup_timeout
        self._memory = AnswerMemory(cache_size)
        self._client: DnsClient | None = None
        self._asking: dict[tuple[str, RecordType], asyncio.Task[Finding]] = {}
        self._store_rests_until: datetime | None = None

    async def mail_exchangers(self, domain: str) -> MailExchangers:
        try:
            name = to_a_labels(domain)
        except ValueError as error:
            raise _no_such_domain(f"Domain {domain} is no possible name: {error}") from error
        if name.rpartition(".")[2] in NEVER_ASKED:
            raise _no_such_domain(f"Domain {domain} is not in the DNS")
        finding = await self.find(name, "MX")
        answer = finding.answer
        if answer is None:
            raise _trouble(name, finding.trouble)
        if not answer.exists:
            raise _no_such_domain(f"Domain {domain} does not exist")
        return MailExchangers(
            records=tuple(MailExchanger.parse(record) for record in answer.records),
            name=answer.canonical,
            authenticated=answer.authenticated,
            overridden=finding.source == "override",
        )

    async def addresses(self, host: str) -> Sequence[IPAddress]:
        try:
            name = to_a_labels(host)
        except ValueError:
            return []
        orders = await self._orders()
        findings = [finding for rdtype in _ADDRESSES if (finding := self._known(name, rdtype, orders))]
        if len(findings) < len(_ADDRESSES):
            findings = await asyncio.gather(*(self.find(name, rdtype) for rdtype in _ADDRESSES))
        answers = [finding.answer for finding in findings]
        found = [ipaddress.ip_address(record) for answer in answers if answer for record in answer.records]
        if not found:
            for finding in findings:
                if finding.answer is None:
                    raise _trouble(name, finding.trouble)
        return found

    async def find(self, name: str, rdtype: RecordType) -> Finding:
        """The answer to one question; `name` in A-labels. An answer of None is trouble.

        Raises TransientRefusal (451 4.4.3, DNS_TROUBLE) when it cannot be known whether there is an override.
        """
        orders = await self._orders()
        return self._known(name, rdtype, orders) or await self._join(name, rdtype, orders)

    def _known(self, name: str, rdtype: RecordType, orders: DnsOrders) -> Finding | None:
        """What needs no call at all."""
        if rdtype == "MX" and name in orders.overrides:
            return Finding(name, rdtype, "override", self._said_by(orders.overrides[name], name))
        now = self._now()
        known = self._remembered(name, rdtype, orders)
        if known.is_fresh(now):
            return Finding(name, rdtype, "memory", known.answer)
        if known.is_in_trouble(now):
            return _stale_or_nothing(name, rdtype, known.answer, known.trouble, now)
        return None

    def _remembered(self, name: str, rdtype: RecordType, orders: DnsOrders) -> Known:
        known = self._memory[name, rdtype]
        asked_at = known.troubled_at or (known.answer.asked_at if known.answer else None)
        return NOTHING if asked_at is not None and orders.forgets(name, asked_at) else known

    async def _join(self, name: str, rdtype: RecordType, orders: DnsOrders) -> Finding:
        """Join the lookup of the same name and type that is under way, or begin one.

        It runs as a task of its own, so that a caller that is cancelled does not take the others'
        answer with it; it ends within the lookup timeout.
        """
        task = self._asking.get((name, rdtype))
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            known = self._remembered(name, rdtype, orders).answer
            task = asyncio.create_task(self._look_up(name, rdtype, known, orders))
            self._asking[name, rdtype] = task
        return await asyncio.shield(task)

    async def _look_up(
        self, name: str, rdtype: RecordType, known: DnsAnswer | None, orders: DnsOrders
    ) -> Finding:
        try:
            shared = await self._shared(name, orders) if rdtype == "MX" else None
            if shared is not None:
                if self._now() < shared.fresh_until:
                    self._memory[name, rdtype] = Known(shared)
                    return Finding(name, rdtype, "shared", shared)
                known = max((known, shared), key=_fresh_until)
            return await self._ask(name, rdtype, known)
        finally:
            self._asking.pop((name, rdtype), None)

    async def _ask(self, name: str, rdtype: RecordType, known: DnsAnswer | None) -> Finding:
        from empath.net.dns_client import DnsClient, DnsTrouble

        if self._client is None:
            self._client = DnsClient(self._nameservers, query_timeout=self._query_timeout)
        now = self._now()
        is_of_use = known is not None and now < forget_at(known)
        lifetime = min(STALE_PATIENCE, self._lookup_timeout) if is_of_use else self._lookup_timeout
        try:
            answer = await self._client.ask(name, rdtype, now=now, lifetime=lifetime)
        except DnsTrouble as trouble:
            kept = known if is_of_use else None
            self._memory[name, rdtype] = Known(kept, str(trouble), self._now())
            finding = _stale_or_nothing(name, rdtype, kept, str(trouble), now)
            logger.info("DNS gives no answer", extra={"dns_name": name, "fault": str(trouble)})
            return finding
        self._memory[name, rdtype] = Known(answer)
        await self._share(answer)
        return Finding(name, rdtype, "asked", answer)

    async def _orders(self) -> DnsOrders:
        if self._cache is None:
            return DnsOrders()
        try:
            return await self._cache.orders()
        except ControlTrouble as error:
            reply = Reply.of(451, "4.4.3", "It cannot be known whether DNS is overridden")
            raise TransientRefusal(reply, Reason.DNS_TROUBLE) from error

    async def _shared(self, name: str, orders: DnsOrders) -> DnsAnswer | None:
        """What another process kept, fresh or not; nothing when the store is in trouble."""
        if self._cache is None or self._sharing == "none" or self._store_rests:
            return None
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                answer = await self._cache.answer(name)
        except (ControlTrouble, TimeoutError):
            self._rest_the_store()
            return None
        if answer is None or orders.forgets(name, answer.asked_at):
            return None
        # Whoever wrote it, by hand or with a clock that is wrong: no answer is believed longer than our own.
        longest = self._now() + lifetime_of(inf, negative=answer.is_negative)
        return replace(answer, fresh_until=min(answer.fresh_until, longest))

    async def _share(self, answer: DnsAnswer) -> None:
        if self._cache is None or self._sharing != "both" or answer.rdtype != "MX" or self._store_rests:
            return
        if answer.fresh_until - answer.asked_at < SHARED_FROM:
            return
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                await self._cache.keep(answer, forget_at=forget_at(answer))
        except (ControlTrouble, TimeoutError):
            self._rest_the_store()

    @property
    def _store_rests(self) -> bool:
        return self._store_rests_until is not None and self._now() < self._store_rests_until

    def _rest_the_store(self) -> None:
        self._store_rests_until = self._now() + STORE_PAUSE
        logger.warning("the shared DNS cache does not answer; name servers are asked instead", exc_info=True)

    def _said_by(self, override: DnsOverride, name: str) -> DnsAnswer:
        now = self._now()
        return DnsAnswer(
            name=name,
            rdtype="MX",
            exists=True,
            canonical=name,
            records=tuple(str(exchanger) for exchanger in override.exchangers),
            authenticated=False,
            asked_at=override.set_at,
            fresh_until=now,
        )


def _stale_or_nothing(
    name: str, rdtype: RecordType, known: DnsAnswer | None, trouble: str | None, now: datetime
) -> Finding:
    is_of_use = known is not None and now < forget_at(known)
    return Finding(name, rdtype, "stale" if is_of_use else "asked", known if is_of_use else None, trouble)


def _fresh_until(answer: DnsAnswer | None) -> datetime:
    return answer.fresh_until if answer is not None else datetime.min.replace(tzinfo=UTC)


def _no_such_domain(text: str) -> PermanentRefusal:
    return PermanentRefusal(Reply.of(550, "5.1.2", text), Reason.NO_SUCH_DOMAIN)


def _trouble(name: str, what: str | None) -> TransientRefusal:
    reply = Reply.of(451, "4.4.3", f"DNS lookup of {name} failed: {what or 'no answer'}")
    return TransientRefusal(reply, Reason.DNS_TROUBLE)
