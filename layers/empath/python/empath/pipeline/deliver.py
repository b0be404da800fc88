"""deliver: one attempt at one delivery.

    gates -> claim -> transaction -> record -> follow-ups -> the job is acknowledged

The job of a site that takes long moves to a queue of its own (pipeline.slow_sites). A gate that holds the
delivery back (pipeline.gates) sends it away until later, and no attempt is made.
Death before the record: the lease ends, the job comes back, a new attempt is made, and the claim that
nobody recorded shows as ambiguous. Death after it: the job that comes back finds the ledger ahead of
itself and only completes the follow-ups.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from empath.domain.circuit import Signal
from empath.domain.classification import classify
from empath.domain.delivery_state import State
from empath.domain.errors import (
    LeaseLost,
    LedgerTrouble,
    Refusal,
    SpoolObjectMissing,
    SpoolTrouble,
)
from empath.domain.gate import HeldBack, frozen
from empath.domain.outcome import Deferred, Failed, outcome_of_refusal
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.domain.reply import Reply
from empath.domain.route import FINAL
from empath.pipeline import ambiguity
from empath.pipeline.conclude import AttemptResult, Conclusion, conclude, waiting_recipients
from empath.pipeline.followups import FollowUps
from empath.pipeline.gates import Gatekeeper, Pass
from empath.pipeline.invocation import MINIMUM_FOR_ATTEMPT, Invocation
from empath.pipeline.jobs import DeliveryJob
from empath.pipeline.lanes import is_left_for_slow_sites
from empath.pipeline.postponement import Postponement
from empath.pipeline.returning import Returning
from empath.pipeline.slow_sites import Lane, SlowSites
from empath.pipeline.stage import Stage
from empath.ports import (
    Claimed,
    ClaimResult,
    Clock,
    Control,
    IdSource,
    JobQueue,
    LeaseHeld,
    Ledger,
    Metrics,
    Missing,
    NextHop,
    QueueName,
    ReceivedJob,
    Routes,
    Spool,
    Stale,
    Transaction,
)

__all__ = ["Delivery", "Invocation"]

LEASE_MARGIN = timedelta(seconds=10)
"""How much longer than the invocation a lease lasts: the skew between two workers' clocks."""

RECORD_PAUSES = (0.1, 0.3, 1.0, 2.0, 4.0)
"""Seconds between tries to record: an unrecorded success is a duplicate in the making."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Heard:
    """How long an attempt took, and whether the site took or refused the mail; as far as there was one."""

    took: float = 0.0
    is_good: bool | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A job with what was read about it."""

    job: DeliveryJob
    queue: QueueName
    received: ReceivedJob
    invocation: Invocation
    message: MessageRecord
    policy: DomainPolicy
    next_hop: NextHop | Refusal
    owner: str
    heard: Heard = field(default_factory=Heard)


@dataclass(frozen=True, slots=True)
class Delivery(Stage):
    spool: Spool
    queue: JobQueue
    ledger: Ledger
    control: Control
    gatekeeper: Gatekeeper
    routes: Routes
    clock: Clock
    ids: IdSource
    metrics: Metrics
    slow_sites: SlowSites | None = None
    """None: every site's mail stays on its queue."""

    async def deliver(
        self, job: DeliveryJob, *, queue: QueueName, received: ReceivedJob, invocation: Invocation
    ) -> bool:
        """Work on a job from `queue`; True when it is done with, False when it is to come back.

        Raises a Trouble when something does not answer; the job is to come back then too.
        """
        if not invocation.has_time():
            return await self._give_back(queue, received)
        # Read before the claim, so that trouble with any of it leaves no lease behind.
        (policy, next_hop), message, _ = await asyncio.gather(
            self._policy_and_next_hop(job.domain),
            self.ledger.message(job.message_id),
            self.gatekeeper.refresh(),
        )
        if message is None:
            logger.warning("the ledger does not know this message; its job is dropped")
            return True
        work = Work(job, queue, received, invocation, message, policy, next_hop, owner=self.ids.new_id())
        if policy.frozen:
            return await self._put_off(work, frozen(self.clock.now()))
        if isinstance(next_hop, Refusal):
            # There is no site to ask about; the attempt says why.
            return await self._claim_and_attempt(work, None)
        lane = await self._lane(work, next_hop.site)
        if lane is Lane.SLOW:
            await self._returning.move(job, received)
            return True
        try:
            return await self._through_the_gates(work, next_hop.site, lane)
        finally:
            if self.slow_sites is not None:
                await self.slow_sites.ended(
                    next_hop.site,
                    owner=work.owner,
                    took=work.heard.took,
                    is_good=work.heard.is_good,
                    lane=Lane.SLOW if work.queue is QueueName.DELIVERY_SLOW else Lane.USUAL,
                )

    async def _lane(self, work: Work, site: str) -> Lane | HeldBack:
        if self.slow_sites is None or not is_left_for_slow_sites(work.queue):
            return Lane.USUAL
        if not work.policy.circuit.enabled:
            return Lane.USUAL
        return await self.gatekeeper.lets_alone(site, work.policy) or await self.slow_sites.ask(
            site, owner=work.owner, time_left=lambda: work.invocation.for_attempts - MINIMUM_FOR_ATTEMPT
        )

    async def _through_the_gates(self, work: Work, site: str, lane: Lane | HeldBack) -> bool:
        invocation = work.invocation
        admitted = (
            lane
            if isinstance(lane, HeldBack)
            else await self.gatekeeper.admit(
                site,
                work.policy,
                slot=work.job.slot,
                priority=work.message.priority,
                owner=work.owner,
                until=self._lease_end(invocation),
                time_left=lambda: invocation.for_attempts - MINIMUM_FOR_ATTEMPT,
            )
        )
        if isinstance(admitted, HeldBack):
            return await self._put_off(work, admitted)
        try:
            return await self._claim_and_attempt(work, admitted)
        finally:
            await self.gatekeeper.close(admitted)

    async def _put_off(self, work: Work, held: HeldBack) -> bool:
        waiting = Postponement(self.queue, self.ledger, self.clock, self.ids, self.metrics)
        claim = await waiting.put_off(
            work.job,
            held,
            queue=work.queue,
            received=work.received,
            message=work.message,
            policy=work.policy,
        )
        return claim is None or await self._conclude_job(work, claim, None)

    async def _give_back(self, queue: QueueName, received: ReceivedJob) -> bool:
        await self._returning.give_back(queue, received)
        return True

    @property
    def _returning(self) -> Returning:
        return Returning(self.queue, self.ledger, self.clock, self.metrics)

    async def _policy_and_next_hop(self, domain: str) -> tuple[DomainPolicy, NextHop | Refusal]:
        policy = await self.control.policy(domain)
        try:
            return policy, await self.routes.find(domain, policy)
        except Refusal as refusal:
            return policy, refusal

    def _lease_end(self, invocation: Invocation) -> datetime:
        return self.clock.now() + timedelta(seconds=invocation.remaining()) + LEASE_MARGIN

    async def _claim_and_attempt(self, work: Work, admitted: Pass | None) -> bool:
        takes = 0.0
        if self.slow_sites is not None and not isinstance(work.next_hop, Refusal):
            takes = self.slow_sites.takes(work.next_hop.site)
        if not work.invocation.has_time(takes):
            # Waiting for a lookup or at a gate took what time there was.
            return await self._give_back(work.queue, work.received)
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
        if not isinstance(work.next_hop, Refusal):
            record = record.model_copy(update={"site": work.next_hop.site})
        on_ambiguous = work.policy.on_ambiguous
        result = ambiguity.without_attempt(record, on_ambiguous)
        if result is None:
            began = self.clock.now()
            result = await self._attempt(record, work)
            if admitted is not None and result.next_hop is not None:
                admitted.hear(result.outcomes.values())
                work.heard.took = (self.clock.now() - began).total_seconds()
                if admitted.heard is not None:
                    work.heard.is_good = admitted.heard.signal is Signal.SUCCESS
            result = ambiguity.decided(result, on_ambiguous)
        else:
            record = ambiguity.without_doubts(record)
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
        transaction = self._transaction(work, record, recipients)
        try:
            if isinstance(work.next_hop, Refusal):
                raise work.next_hop
            done = await work.next_hop.deliver(transaction, time_left=lambda: work.invocation.for_attempts)
            return AttemptResult(
                done.outcomes,
                done.next_hop,
                done.tls,
                done.ambiguous,
                done.passed_on,
                done.dnssec,
                is_final=work.policy.route.kind in FINAL,
            )
        except Refusal as met:
            return AttemptResult(dict.fromkeys(recipients, outcome_of_refusal(met)))
        except SpoolTrouble:
            refused = Deferred(
                Reply.of(451, "4.3.0", "The raw message could not be read"), Reason.WORKER_FAILED
            )
            return AttemptResult(dict.fromkeys(recipients, refused))
        except LedgerTrouble:
            refused = Deferred(
                Reply.of(451, "4.3.0", "The ledger could not be told of the attempt"), Reason.WORKER_FAILED
            )
            return AttemptResult(dict.fromkeys(recipients, refused))
        except SpoolObjectMissing:
            lost = Failed(
                Reply.of(554, "5.3.0", "The raw message is no longer in the spool"), Reason.CONTENT_LOST
            )
            return AttemptResult(dict.fromkeys(recipients, lost))

    def _transaction(self, work: Work, record: DeliveryRecord, recipients: list[str]) -> Transaction:
        message = work.message
        known = {address: record.recipients[address] for address in recipients}
        return Transaction(
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
            name=str(record.key),
            before_commit=ambiguity.marker(
                self.ledger, self.clock, record, owner=work.owner, policy=work.policy.on_ambiguous
            ),
        )

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
            self.metrics.count(state.lower(), domain=concluded.domain)
            if state is not State.SENT:
                trouble = classify(outcome.reply, outcome.reason)
                self.metrics.count(f"{state.lower()}_{trouble}", domain=concluded.domain)
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
