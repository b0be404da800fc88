"""deliver: one attempt at one delivery.

    gates -> claim -> transaction -> record -> follow-ups -> the job is acknowledged

A gate that holds the delivery back (pipeline.gates) sends it away until later, and no attempt is made.
Death before the record: the lease ends, the job comes back, a new attempt is made, and the claim that
nobody recorded shows as ambiguous. Death after it: the job that comes back finds the ledger ahead of
itself and only completes the follow-ups.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from empath.domain.classification import classify
from empath.domain.delivery_state import State
from empath.domain.errors import (
    LeaseLost,
    LedgerTrouble,
    PermanentRefusal,
    Refusal,
    SpoolObjectMissing,
    SpoolTrouble,
    TransientRefusal,
)
from empath.domain.gate import HeldBack
from empath.domain.network import IPNetwork
from empath.domain.outcome import Deferred, Failed, outcome_of_refusal
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.domain.reply import Reply
from empath.pipeline.conclude import AttemptResult, Conclusion, conclude, waiting_recipients
from empath.pipeline.dead_hosts import DeadHosts
from empath.pipeline.followups import FollowUps
from empath.pipeline.gates import Gatekeeper, Pass
from empath.pipeline.jobs import DeliveryJob
from empath.pipeline.postponement import Postponement
from empath.pipeline.routing import Route, endpoints_of, find_route
from empath.pipeline.stage import Stage
from empath.ports import (
    Channel,
    Claimed,
    ClaimResult,
    Clock,
    Control,
    Dialer,
    Endpoint,
    IdSource,
    JobQueue,
    LeaseHeld,
    Ledger,
    Metrics,
    Missing,
    QueueName,
    ReceivedJob,
    Resolver,
    Spool,
    Stale,
    Transaction,
)

LEASE_MARGIN = timedelta(seconds=10)
"""How much longer than the invocation a lease lasts: the skew between two workers' clocks."""

MAX_RESERVE = 10.0
"""Seconds of an invocation kept for recording what happened (a fifth of it when it is short)."""

MINIMUM_FOR_ATTEMPT = 5.0
"""Seconds that must be left, beyond the reserve, for an attempt to be begun at all."""

RECORD_PAUSES = (0.1, 0.3, 1.0, 2.0, 4.0)
"""Seconds between tries to record: an unrecorded success is a duplicate in the making."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of a worker: how many seconds it has left, and how many of them are for recording."""

    remaining: Callable[[], float]
    reserve: float

    @classmethod
    def begun(cls, remaining: Callable[[], float]) -> Invocation:
        """An invocation that begins now."""
        return cls(remaining, min(MAX_RESERVE, remaining() / 5))

    @property
    def for_attempts(self) -> float:
        """Seconds left for talking to next hops."""
        return self.remaining() - self.reserve


@dataclass(frozen=True, slots=True)
class Work:
    """A job with what was read about it."""

    job: DeliveryJob
    queue: QueueName
    received: ReceivedJob
    invocation: Invocation
    message: MessageRecord
    policy: DomainPolicy
    route: Route | Refusal
    owner: str


@dataclass(frozen=True, slots=True)
class Delivery(Stage):
    spool: Spool
    queue: JobQueue
    ledger: Ledger
    control: Control
    gatekeeper: Gatekeeper
    resolver: Resolver
    dialer: Dialer
    clock: Clock
    ids: IdSource
    metrics: Metrics
    hostname: str
    own_addresses: tuple[IPNetwork, ...] = ()
    """Where mail comes in here: a host with one of these is ourselves."""
    dead_hosts: DeadHosts | None = None
    """What did not answer this process a short while ago."""

    async def deliver(
        self, job: DeliveryJob, *, queue: QueueName, received: ReceivedJob, invocation: Invocation
    ) -> bool:
        """Work on a job from `queue`; True when it is done with, False when it is to come back.

        Raises a Trouble when something does not answer; the job is to come back then too.
        """
        if invocation.for_attempts < MINIMUM_FOR_ATTEMPT:
            await self.queue.hide(queue, received.receipt, 0)
            return False
        # Read before the claim, so that trouble with any of it leaves no lease behind.
        policy, message, route, _ = await asyncio.gather(
            self.control.policy(job.domain),
            self.ledger.message(job.message_id),
            self._route(job.domain),
            self.gatekeeper.refresh(),
        )
        if message is None:
            logger.warning("the ledger does not know this message; its job is dropped")
            return True
        work = Work(job, queue, received, invocation, message, policy, route, owner=self.ids.new_id())
        if isinstance(route, Refusal):
            # There is no site to ask about; the attempt says why.
            return await self._claim_and_attempt(work, None)
        admitted = await self.gatekeeper.admit(
            route.site,
            policy,
            slot=job.slot,
            owner=work.owner,
            until=self._lease_end(invocation),
            time_left=lambda: invocation.for_attempts - MINIMUM_FOR_ATTEMPT,
        )
        if isinstance(admitted, HeldBack):
            waiting = Postponement(self.queue, self.ledger, self.clock, self.ids, self.metrics)
            claim = await waiting.put_off(
                job,
                admitted,
                queue=queue,
                received=received,
                message=message,
                policy=policy,
            )
            return claim is None or await self._conclude_job(work, claim, None)
        try:
            return await self._claim_and_attempt(work, admitted)
        finally:
            await self.gatekeeper.close(admitted)

    async def _route(self, domain: str) -> Route | Refusal:
        try:
            return await find_route(domain, resolver=self.resolver, ids=self.ids, own_name=self.hostname)
        except Refusal as refusal:
            return refusal

    def _lease_end(self, invocation: Invocation) -> datetime:
        return self.clock.now() + timedelta(seconds=invocation.remaining()) + LEASE_MARGIN

    async def _claim_and_attempt(self, work: Work, admitted: Pass | None) -> bool:
        if work.invocation.for_attempts < MINIMUM_FOR_ATTEMPT:
            # Waiting for a lookup or at a gate took what time there was.
            await self.queue.hide(work.queue, work.received.receipt, 0)
            return False
        claim = await self.ledger.claim(
            work.job.key,
            attempt=work.job.attempt,
            owner=work.owner,
            now=self.clock.now(),
            until=self._lease_end(work.invocation),
        )
        return await self._conclude_job(work, claim, admitted)

    async def _conclude_job(self, work: Work, claim: ClaimResult, admitted: Pass | None) -> bool:
        """Do what a claim leaves to be done; whether the job is done with then."""
        job, queue, received, now = work.job, work.queue, work.received, self.clock.now()
        follow_ups = FollowUps(self.queue, self.ledger)
        match claim:
            case Claimed(record):
                concluded = await self._attempt_and_record(record, work, admitted)
                await follow_ups.complete(concluded, now=self.clock.now(), trace_header=received.trace_header)
                return True
            case LeaseHeld(until):
                # Never dropped: should the holder die, this copy may be the only one left.
                wait = math.ceil((until - now).total_seconds())
                await self.queue.hide(queue, received.receipt, max(wait, 1))
                logger.info("delivery is leased by another worker", extra={"seconds": wait})
                return False
            case Stale(record):
                await follow_ups.complete(record, now=now, trace_header=received.trace_header)
                logger.info("late copy of a job", extra={"job_attempt": job.attempt})
                return True
            case Missing():
                logger.warning("the ledger does not know this delivery; its job is dropped")
                return True

    async def _attempt_and_record(
        self, record: DeliveryRecord, work: Work, admitted: Pass | None
    ) -> DeliveryRecord:
        if isinstance(work.route, Route):
            record = record.model_copy(update={"site": work.route.site})
        result = await self._attempt(record, work)
        if admitted is not None and result.next_hop is not None:
            admitted.hear(result.outcomes.values())
        conclusion = conclude(
            record,
            result,
            now=self.clock.now(),
            policy=work.policy.retry,
            random=self.ids.random(),
            reportable=work.message.reverse_path is not None,
        )
        concluded = await self._record(conclusion, record.attempts[-1].owner, work.invocation)
        self._tell(result, concluded)
        return concluded

    async def _attempt(self, record: DeliveryRecord, work: Work) -> AttemptResult:
        recipients = waiting_recipients(record)
        endpoint: Endpoint | None = None
        try:
            if isinstance(work.route, Refusal):
                raise work.route
            refusal: Refusal | None = None
            endpoints = endpoints_of(
                work.route,
                work.policy,
                self.resolver,
                dead=self.dead_hosts,
                own_addresses=self.own_addresses,
            )
            async for endpoint in endpoints:
                deadline = work.invocation.for_attempts
                if deadline <= 0:
                    break
                try:
                    channel = await self.dialer.connect(endpoint, deadline=deadline)
                except Refusal as met:
                    # RFC 5321 §5.1: the next host may answer. Temporary words weigh more than final ones.
                    refusal = _kinder(refusal, met)
                    if self.dead_hosts is not None:
                        self.dead_hosts.note(endpoint, met)
                    continue
                if self.dead_hosts is not None:
                    self.dead_hosts.forget(endpoint)
                return await self._transact(channel, endpoint, work.message, record, recipients)
            raise refusal or TransientRefusal(
                Reply.of(451, "4.4.1", "No time was left to connect to the next hop"), Reason.TIMEOUT
            )
        except Refusal as met:
            return AttemptResult(
                dict.fromkeys(recipients, outcome_of_refusal(met)), str(endpoint) if endpoint else None
            )

    async def _transact(
        self,
        channel: Channel,
        endpoint: Endpoint,
        message: MessageRecord,
        record: DeliveryRecord,
        recipients: list[str],
    ) -> AttemptResult:
        known = {address: record.recipients[address] for address in recipients}
        transaction = Transaction(
            reverse_path=str(message.reverse_path) if message.reverse_path else "",
            recipients=recipients,
            content=lambda: self._content(message),
            size=len(message.prepend.encode()) + message.size,
            eight_bit=message.eight_bit,
            smtputf8=message.smtputf8,
            notify={address: one.notify for address, one in known.items() if one.notify},
            orcpt={address: one.orcpt for address, one in known.items() if one.orcpt},
            envid=message.envid,
            ret=message.ret,
        )
        try:
            done = await channel.transact(transaction)
            return AttemptResult(
                done.outcomes, str(endpoint), channel.tls, done.ambiguous, passed_on=done.passed_on
            )
        except SpoolTrouble:
            refused = Deferred(
                Reply.of(451, "4.3.0", "The raw message could not be read"), Reason.WORKER_FAILED
            )
            return AttemptResult(dict.fromkeys(recipients, refused), str(endpoint), channel.tls)
        except SpoolObjectMissing:
            lost = Failed(
                Reply.of(554, "5.3.0", "The raw message is no longer in the spool"), Reason.CONTENT_LOST
            )
            return AttemptResult(dict.fromkeys(recipients, lost), str(endpoint), channel.tls)
        finally:
            await channel.close()

    async def _content(self, message: MessageRecord) -> AsyncIterator[bytes]:
        if message.prepend:
            yield message.prepend.encode()
        async for chunk in self.spool.read(message.spool_key):
            yield chunk

    async def _record(self, conclusion: Conclusion, owner: str, invocation: Invocation) -> DeliveryRecord:
        """Write the outcome, again and again while time is left; the record now in force."""
        for pause in (*RECORD_PAUSES, None):
            try:
                await self.ledger.record(conclusion.record, owner=owner, owes=conclusion.owes)
                return conclusion.record
            except LeaseLost:
                return await self._after_lost_lease(conclusion, owner)
            except LedgerTrouble:
                if pause is None or invocation.remaining() < pause + 1:
                    logger.exception("the outcome of an attempt could not be recorded")
                    raise
                await self.clock.sleep(pause)
        raise AssertionError("unreachable: the last pause is None")

    async def _after_lost_lease(self, conclusion: Conclusion, owner: str) -> DeliveryRecord:
        """Our own record, when only the ledger's answer to it was lost; else LeaseLost."""
        stored = await self.ledger.delivery(conclusion.record.key)
        if stored is not None and any(
            attempt.owner == owner and attempt.duration is not None for attempt in stored.attempts
        ):
            return stored
        logger.error(
            "lease lost before the outcome was recorded",
            extra={"outcome": str(conclusion.record.attempts[-1].reply)},
        )
        raise LeaseLost(str(conclusion.record.key))

    def _tell(self, result: AttemptResult, concluded: DeliveryRecord) -> None:
        for address, outcome in result.outcomes.items():
            state = concluded.recipients[address].state
            self.metrics.count(state.lower())
            if state is not State.SENT:
                self.metrics.count(f"{state.lower()}_{classify(outcome.reply, outcome.reason)}")
            logger.info(
                "attempt ended",
                extra={
                    "recipient": address,
                    "state": state,
                    "reply": str(outcome.reply),
                    "reason": outcome.reason,
                    "next_hop": result.next_hop,
                    "tls": result.tls,
                    "ambiguous": result.ambiguous,
                    "next_attempt_at": concluded.next_attempt_at and str(concluded.next_attempt_at),
                },
            )


def _kinder(known: Refusal | None, met: Refusal) -> Refusal:
    """The refusal that leaves more hope; of equals, the later one."""
    if isinstance(known, TransientRefusal) and isinstance(met, PermanentRefusal):
        return known
    return met
