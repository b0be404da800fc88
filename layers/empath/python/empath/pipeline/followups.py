"""What a recorded attempt still asks for: a job for the next attempt, jobs for the reports it owes.

Read from the ledger alone, so that whoever finds a record (the worker that wrote it, a late copy of its
job, the clock) completes the same things, and completing them again does no harm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from empath.domain.delivery_state import State
from empath.domain.envelope import Priority
from empath.domain.reason import Reason
from empath.domain.records import DeliveryKey, DeliveryRecord
from empath.pipeline.jobs import DeliveryJob, DsnJob
from empath.pipeline.lanes import group_of, queue_of_further
from empath.ports import JobQueue, Ledger, Listed, OutgoingJob, QueueName

SQS_HORIZON = timedelta(seconds=900)
"""How far ahead a queue can carry a job; what is due later waits in the ledger for the clock."""

EARLY = 0.25
"""Seconds at least that a job with a place in a line comes early, and one more at most, since queues know
whole seconds. What one loses that comes late others find; and whoever waits keeps a worker busy."""


@dataclass(frozen=True, slots=True)
class NextAttempt:
    """The attempt that a deferred delivery waits for."""

    key: DeliveryKey
    attempt: int
    due: datetime
    is_slot: bool = False
    """`due` is the attempt's place in the line for slots."""
    priority: Priority = "normal"
    tenant: str | None = None

    @classmethod
    def of(cls, known: DeliveryRecord | Listed, due: datetime) -> NextAttempt:
        return cls(
            key=known.key,
            attempt=known.attempt,
            due=due,
            is_slot=known.reason == Reason.SLOT_RESERVED,
            priority=known.priority,
            tenant=known.tenant,
        )

    @property
    def queue(self) -> QueueName:
        return queue_of_further(self.priority)

    def outgoing(self, now: datetime, trace_header: str | None = None) -> OutgoingJob:
        """Its job, with the exact remaining delay. ValueError for a key that is none."""
        job = DeliveryJob(
            message_id=self.key.message_id,
            delivery=self.key.delivery,
            attempt=self.attempt,
            slot=self.due if self.is_slot else None,
        )
        return outgoing(job, due=self.due, now=now, tenant=self.tenant, trace_header=trace_header)


@dataclass(frozen=True, slots=True)
class FollowUps:
    queue: JobQueue
    ledger: Ledger

    async def complete(
        self, record: DeliveryRecord, *, now: datetime, trace_header: str | None = None
    ) -> None:
        """Send what `record` still asks for. Raises QueueTrouble or LedgerTrouble; call again then."""
        await self.report(record, trace_header=trace_header)
        due = record.next_attempt_at
        if record.status is State.DEFERRED and record.job_at is None and due and due - now <= SQS_HORIZON:
            attempt = NextAttempt.of(record, due)
            # In this order: death in between costs a second job, which the claim makes harmless.
            await self.queue.send(attempt.queue, [attempt.outgoing(now, trace_header)])
            await self.mark_queued(attempt, now=now)

    async def report(self, record: DeliveryRecord, *, trace_header: str | None = None) -> None:
        """Send a job for every report that the record owes."""
        await self.queue.send(QueueName.DSN, report_jobs(record, trace_header))

    async def mark_queued(self, attempt: NextAttempt, *, now: datetime) -> None:
        """Note that the job of `attempt` is on its queue."""
        await self.ledger.mark_queued(attempt.key, attempt=attempt.attempt, job_at=max(attempt.due, now))


def outgoing(
    job: DeliveryJob,
    *,
    due: datetime,
    now: datetime,
    tenant: str | None = None,
    trace_header: str | None = None,
) -> OutgoingJob:
    """A job that comes at `due`, or a little before it when that is its place in the line for slots.

    Queues know whole seconds only and may be late, and a slot is kept to the moment.
    """
    seconds = (due - now).total_seconds()
    delay = math.ceil(seconds) if job.slot is None else math.floor(seconds - EARLY)
    return OutgoingJob(job.encode(), max(0, delay), trace_header, group_of(tenant))


def report_jobs(record: DeliveryRecord, trace_header: str | None = None) -> Sequence[OutgoingJob]:
    """One job for each report that the record owes."""
    return [
        OutgoingJob(
            body=DsnJob(message_id=record.message_id, delivery=record.delivery, event=event).encode(),
            trace_header=trace_header,
            group=group_of(record.tenant),
        )
        for event, state in record.reports.items()
        if state == "owed"
    ]
