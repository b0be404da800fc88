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
from empath.domain.records import DeliveryKey, DeliveryRecord
from empath.pipeline.jobs import DeliveryJob, DsnJob
from empath.ports import JobQueue, Ledger, OutgoingJob, QueueName

SQS_HORIZON = timedelta(seconds=900)
"""How far ahead a queue can carry a job; what is due later waits in the ledger for the clock."""


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
                record.key, attempt=record.attempt, due=due, now=now, trace_header=trace_header
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
        trace_header: str | None = None,
    ) -> None:
        """Put the job for `attempt` on `retry` with the exact remaining delay, then note that it is there.

        In this order: death in between costs a second job, which the claim makes harmless.
        """
        delay = max(0, math.ceil((due - now).total_seconds()))
        job = DeliveryJob(message_id=key.message_id, delivery=key.delivery, attempt=attempt)
        await self.queue.send(
            QueueName.RETRY, [OutgoingJob(body=job.encode(), delay=delay, trace_header=trace_header)]
        )
        await self.ledger.mark_queued(key, attempt=attempt, job_at=max(due, now))


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
