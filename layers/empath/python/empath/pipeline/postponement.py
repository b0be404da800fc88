"""What becomes of a delivery that a gate holds back: it waits, and no attempt is counted.

Up to the queue's horizon its job goes back on a queue; farther, it waits in the ledger like a deferred
delivery, and the clock wakes it. What has a place in the line for slots keeps it
either way. Nothing waits beyond its expiry: at that moment it asks once more, and is given up when the gate
says no.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from empath.domain.delivery_state import Event, State, advance
from empath.domain.gate import HeldBack, put_off
from empath.domain.outcome import Deferred
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.domain.reply import Reply
from empath.pipeline.conclude import AttemptResult, Conclusion, conclude, unclaimed_attempt
from empath.pipeline.counting import count_outcomes
from empath.pipeline.followups import SQS_HORIZON, FollowUps, outgoing
from empath.pipeline.jobs import DeliveryJob
from empath.pipeline.lanes import queue_of_put_off
from empath.pipeline.report_events import hears_of_delay, owed_events
from empath.ports import (
    Clock,
    IdSource,
    JobQueue,
    LeaseHeld,
    Ledger,
    Metrics,
    Missing,
    QueueName,
    ReceivedJob,
    Stale,
)

SOON = timedelta(seconds=1)

_WORDS = {
    Reason.CIRCUIT_OPEN: ("4.4.1", "The next hop failed too often lately and is let alone"),
    Reason.SLOT_RESERVED: ("4.4.5", "More mail than the next hop may be given in this time"),
    Reason.FROZEN: ("4.3.2", "Mail to this domain is stopped for now"),
    Reason.CONNECTIONS_IN_USE: ("4.4.5", "All connections that the next hop may be given are in use"),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Postponement:
    queue: JobQueue
    ledger: Ledger
    clock: Clock
    ids: IdSource
    metrics: Metrics

    async def put_off(
        self,
        job: DeliveryJob,
        held: HeldBack,
        *,
        queue: QueueName,
        received: ReceivedJob,
        message: MessageRecord,
        policy: DomainPolicy,
    ) -> LeaseHeld | Stale | Missing | None:
        """Let the delivery wait; None when that is arranged, so that its job is done with.

        It waits on a queue (`queue_of_put_off` of the one that its job came from) or in the ledger.
        Otherwise what stands in the way, as a claim would tell it. Raises QueueTrouble or LedgerTrouble.
        """
        record, trace_header = await self.ledger.delivery(job.key), received.trace_header
        now = self.clock.now()
        if record is None:
            return Missing()
        if record.attempt != job.attempt or record.status not in (State.QUEUED, State.DEFERRED):
            return Stale(record)
        if record.lease is not None and record.lease.until > now:
            return LeaseHeld(record.lease.until)
        reportable = message.reverse_path is not None
        if now >= record.expires:
            given_up = _given_up(record, held, now=now, policy=policy, reportable=reportable)
            return await self._write(given_up, job, now, trace_header)
        waited = timedelta(seconds=max(job.waited, record.waited or 0))
        longest = timedelta(seconds=policy.retry.max_delay)
        if held.site is not None:
            record = record.model_copy(update={"site": held.site})
        until = put_off(held, now=now, waited=waited, random=self.ids.random(), longest=longest)
        reason = held.reason
        if until >= record.expires:
            until = record.expires
            reason = Reason.RATE_LIMITED if reason is Reason.SLOT_RESERVED else reason
        logger.info("held back", extra={"reason": reason, "until": str(until), "site": record.site})
        seconds = 0 if held.slot else round((until - now).total_seconds())
        if until - now > SQS_HORIZON:
            waiting = _waiting(
                record, reason, until, waited=seconds, now=now, policy=policy, reportable=reportable
            )
            return await self._write(waiting, job, now, trace_header)
        again = job.model_copy(
            update={"slot": until if reason is Reason.SLOT_RESERVED else None, "waited": seconds}
        )
        outgoing_job = outgoing(again, due=until, now=now, tenant=record.tenant, trace_header=trace_header)
        await self.queue.send(queue_of_put_off(queue, reason), [outgoing_job])
        if record.status is State.DEFERRED:
            # Else the clock would take the job for lost and send another one.
            await self.ledger.mark_queued(job.key, attempt=job.attempt, job_at=until)
        return None

    async def _write(
        self, conclusion: Conclusion, job: DeliveryJob, now: datetime, trace_header: str | None
    ) -> LeaseHeld | None:
        record = conclusion.record
        if not await self.ledger.record_unclaimed(record, attempt=job.attempt, now=now, owes=conclusion.owes):
            # Somebody was quicker; what it came to is seen when the job comes again.
            return LeaseHeld(now + SOON)
        await FollowUps(self.queue, self.ledger).complete(record, now=now, trace_header=trace_header)
        if record.is_final:
            count_outcomes(self.metrics, record, attempt=job.attempt)
            logger.info("given up without an attempt", extra={"reason": record.attempts[-1].reason})
        return None


def _waiting(
    record: DeliveryRecord,
    reason: Reason,
    until: datetime,
    *,
    waited: int,
    now: datetime,
    policy: DomainPolicy,
    reportable: bool,
) -> Conclusion:
    """The record of a delivery that waits in the ledger; recipients keep what was last heard about them."""
    recipients = {
        address: known.model_copy(update={"state": advance(known.state, Event.DEFER), "reason": reason})
        if known.state is State.QUEUED
        else known
        for address, known in record.recipients.items()
    }
    owes: tuple[str, ...] = ()
    if reportable and policy.retry.is_late(received_at=record.received_at, now=now):
        recipients = {
            address: known.model_copy(update={"delay_reported": record.attempt})
            if hears_of_delay(known)
            else known
            for address, known in recipients.items()
        }
        owes = owed_events(recipients, record.attempt)
    return Conclusion(
        record.model_copy(
            update={
                "recipients": recipients,
                "next_attempt_at": until,
                "job_at": None,
                "lease": None,
                "reason": reason,
                "waited": waited or None,
                "reports": {**record.reports, **dict.fromkeys(owes, "owed")},
            }
        ),
        owes,
    )


def _given_up(
    record: DeliveryRecord, held: HeldBack, *, now: datetime, policy: DomainPolicy, reportable: bool
) -> Conclusion:
    status, words = _WORDS[held.reason]
    text = f"{words}: {held.cause}" if held.cause else words
    begun = unclaimed_attempt(record, now=now, owner="gate")
    return conclude(
        begun,
        AttemptResult.for_all(begun, Deferred(Reply.of(451, status, text), held.reason)),
        now=now,
        policy=policy.retry,
        random=0.5,
        reportable=reportable,
    )
