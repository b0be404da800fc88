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
from empath.domain.reason import Reason
from empath.domain.records import DeliveryKey, DeliveryRecord
from empath.pipeline.jobs import DeliveryJob, DsnJob
from empath.ports import JobQueue, Ledger, OutgoingJob, QueueName

SQS_HORIZON = timedelta(seconds=900)
"""How far ahead a queue can carry a job; what is due later waits in the ledger for the clock."""

EARLY = 1.0
"""Seconds that a job with a slot comes early; rounded down it is less than WAITED_FOR."""


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
            await self.queue_attempt(
                record.key,
                attempt=record.attempt,
                due=due,
                now=now,
                is_slot=record.reason is Reason.SLOT_RESERVED,
                trace_header=trace_header,
            )

    async def report(self, record: DeliveryRecord, *, trace_header: str | None = None) -> None:
        """Send a job for every report that the record owes."""
        await self.queue.send(QueueName.DSN, report_jobs(record, trace_header))

    async def queue_attempt(
        self,
        key: DeliveryKey,
        *,
        attempt: int,
        due: datetime,
        now: datetime,
        is_slot: bool = False,
        trace_header: str | None = None,
    ) -> None:
        """Put the job for `attempt` on `retry` with the exact remaining delay, then note that it is there.

        In this order: death in between costs a second job, which the claim makes harmless. With `is_slot`,
        `due` is the attempt's slot.
        """
        job = DeliveryJob(
            message_id=key.message_id, delivery=key.delivery, attempt=attempt, slot=due if is_slot else None
        )
        await self.queue.send(QueueName.RETRY, [outgoing(job, due=due, now=now, trace_header=trace_header)])
        await self.ledger.mark_queued(key, attempt=attempt, job_at=max(due, now))


def outgoing(
    job: DeliveryJob, *, due: datetime, now: datetime, trace_header: str | None = None
) -> OutgoingJob:
    """A job that comes at `due`, or a little before it when that is its slot.

    Queues know whole seconds only and may be late, and a slot is kept to the moment.
    """
    seconds = (due - now).total_seconds()
    delay = math.ceil(seconds) if job.slot is None else math.floor(seconds - EARLY)
    return OutgoingJob(body=job.encode(), delay=max(0, delay), trace_header=trace_header)


def report_jobs(record: DeliveryRecord, trace_header: str | None = None) -> Sequence[OutgoingJob]:
    """One job for each report that the record owes."""
    return [
        OutgoingJob(
            body=DsnJob(message_id=record.message_id, delivery=record.delivery, event=event).encode(),
            trace_header=trace_header,
        )
        for event, state in record.reports.items()
        if state == "owed"
    ]
