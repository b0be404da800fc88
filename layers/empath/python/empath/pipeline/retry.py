"""retry: the clock. Each minute it wakes deferred deliveries whose time is near, and heals lost jobs.

It reads the `listing` index, which lags behind the ledger; so what it sees is a hint, the job that it
sends names the attempt, and the claim decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, islice
from operator import attrgetter

from empath.domain.delivery_state import State
from empath.domain.envelope import Priority
from empath.domain.errors import Trouble
from empath.pipeline.batch import all_of
from empath.pipeline.followups import SQS_HORIZON, FollowUps, NextAttempt
from empath.pipeline.stage import Stage
from empath.ports import Clock, JobQueue, Ledger, Listed, OutgoingJob
from empath.ports.ledger import LISTING_SHARDS

OVERDUE = timedelta(minutes=15)
"""A job that has not come to an attempt so long after its time is taken for lost."""

RESERVE = 5.0
"""Seconds of an invocation that are left unused; the next tick goes on where this one stopped."""

PAGE = 1000
"""Rows that are read at a time: about 300 kB, and a query gives at most 1 MB."""

BATCH = 10
"""Jobs that are sent at a time, as many as one request takes. After each batch the time is looked at."""

BATCHES_AT_ONCE = 4
"""Of a shard: with eight shards 320 writes under way, more than one CPU keeps up with."""

_ORDER: dict[Priority, int] = {"high": 0, "normal": 1, "bulk": 2}

BEYOND_HELP = "a deferred delivery cannot be queued"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryClock(Stage):
    queue: JobQueue
    ledger: Ledger
    clock: Clock

    async def tick(self, remaining: Callable[[], float]) -> int:
        """Queue every attempt that is near or overdue, the oldest of each shard first; how many were queued.

        Raises LedgerTrouble or QueueTrouble, when every shard has come to an end; the next tick finds the
        rest.
        """
        return sum(await all_of(self._tick_shard(shard, remaining) for shard in range(LISTING_SHARDS)))

    async def _tick_shard(self, shard: int, remaining: Callable[[], float]) -> int:
        now = self.clock.now()
        queued = 0
        after = None
        while remaining() > RESERVE:
            page, after = await self.ledger.listed(
                State.DEFERRED, shard, before=now + SQS_HORIZON, limit=PAGE, after=after
            )
            batches = _batches([row for row in page if needs_job(row, now)])
            workers = [self._queue_all(batches, remaining, now) for _ in range(BATCHES_AT_ONCE)]
            queued += sum(await all_of(workers))
            if after is None and next(batches, None) is None:
                return queued
        logger.warning("the clock ran out of time; the next tick goes on", extra={"shard": shard})
        return queued

    async def _queue_all(
        self, batches: Iterator[list[NextAttempt]], remaining: Callable[[], float], now: datetime
    ) -> int:
        queued = 0
        while remaining() > RESERVE and (batch := next(batches, None)):
            queued += await self._queue(batch, now)
        return queued

    async def _queue(self, attempts: Sequence[NextAttempt], now: datetime) -> int:
        """Put the jobs of `attempts` on their queue, then note that they are there; how many are.

        In this order: death in between costs second jobs, which the claim makes harmless. What is beyond help
        does not keep the others waiting.
        """
        jobs = {attempt: job for attempt in attempts if (job := _job(attempt, now)) is not None}
        if not jobs:
            return 0
        await self.queue.send(attempts[0].queue, list(jobs.values()))
        follow_ups = FollowUps(self.queue, self.ledger)

        async def mark(attempt: NextAttempt) -> bool:
            try:
                await follow_ups.mark_queued(attempt, now=now)
            except Trouble:
                raise
            except Exception:
                logger.exception(BEYOND_HELP, extra=_about(attempt))
                return False
            return True

        return sum(await all_of(mark(attempt) for attempt in jobs))


def _batches(rows: Sequence[Listed]) -> Iterator[list[NextAttempt]]:
    """What `rows` wait for, in batches of one queue each: high priority first, and of each the oldest."""
    attempts = [NextAttempt.of(row, row.next_attempt_at or row.at) for row in rows]
    attempts.sort(key=lambda attempt: _ORDER[attempt.priority])
    for _, of_queue in groupby(attempts, key=attrgetter("queue")):
        while batch := list(islice(of_queue, BATCH)):
            yield batch


def _job(attempt: NextAttempt, now: datetime) -> OutgoingJob | None:
    try:
        return attempt.outgoing(now)
    except ValueError:
        logger.exception(BEYOND_HELP, extra=_about(attempt))
        return None


def _about(attempt: NextAttempt) -> dict[str, str]:
    return {"message_id": attempt.key.message_id, "delivery": attempt.key.delivery}


def needs_job(row: Listed, now: datetime) -> bool:
    """Whether nobody has queued the attempt yet, or its job seems lost."""
    return row.job_at is None or row.job_at + OVERDUE <= now
