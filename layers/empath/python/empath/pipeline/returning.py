"""Jobs that go back to a queue as if they had never been received, so that no receipt counts against them.

What a queue shows again by itself was received once more, and after too many times is a dead letter, though
nothing was wrong with it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from empath.pipeline.jobs import DeliveryJob
from empath.pipeline.lanes import NOBODY
from empath.ports import Clock, JobQueue, Ledger, Metrics, OutgoingJob, QueueName, ReceivedJob

SLOW_QUEUE_TAKES = timedelta(hours=1)
"""How long a job may wait on the queue of slow sites until the clock takes it for lost (a quarter of an hour
after that). One too many does no harm, for only one of them is claimed."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Returning:
    """Raises QueueTrouble or LedgerTrouble; the job comes back by itself then."""

    queue: JobQueue
    ledger: Ledger
    clock: Clock
    metrics: Metrics

    async def give_back(self, queue: QueueName, received: ReceivedJob) -> None:
        """Let another invocation have the job."""
        await self._send(queue, received)
        logger.info("given back, for the time is over")

    async def move(self, job: DeliveryJob, received: ReceivedJob) -> None:
        """Put the job on the queue of slow sites."""
        await self._send(QueueName.DELIVERY_SLOW, received)
        if job.attempt > 1 or job.waited:
            # Else the clock would send one more each quarter of an hour.
            job_at = self.clock.now() + SLOW_QUEUE_TAKES
            await self.ledger.mark_queued(job.key, attempt=job.attempt, job_at=job_at)
        self.metrics.count("moved_to_slow")
        logger.info("moved to the queue of slow sites")

    async def _send(self, queue: QueueName, received: ReceivedJob) -> None:
        again = OutgoingJob(received.body, 0, received.trace_header, received.group or NOBODY)
        await self.queue.send(queue, [again])
