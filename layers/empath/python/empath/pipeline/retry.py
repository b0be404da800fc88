"""retry: the clock. Each minute it wakes deferred deliveries whose time is near, and heals lost jobs.

It reads the `listing` index, which lags behind the ledger; so what it sees is a hint, the job that it
sends names the attempt, and the claim decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from empath.domain.delivery_state import State
from empath.domain.errors import Trouble
from empath.domain.reason import Reason
from empath.pipeline.batch import all_of
from empath.pipeline.followups import SQS_HORIZON, FollowUps
from empath.pipeline.stage import Stage
from empath.ports import Clock, JobQueue, Ledger, Listed
from empath.ports.ledger import LISTING_SHARDS

OVERDUE = timedelta(minutes=15)
"""A job that has not come to an attempt so long after its time is taken for lost."""

RESERVE = 5.0
"""Seconds of an invocation that are left unused; the next tick goes on where this one stopped."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryClock(Stage):
    queue: JobQueue
    ledger: Ledger
    clock: Clock

    async def tick(self, remaining: Callable[[], float]) -> int:
        """Queue every attempt that is near or overdue; how many jobs were sent.

        Raises LedgerTrouble or QueueTrouble, when every shard has come to an end; the next tick finds the
        rest.
        """
        return sum(await all_of(self._tick_shard(shard, remaining) for shard in range(LISTING_SHARDS)))

    async def _tick_shard(self, shard: int, remaining: Callable[[], float]) -> int:
        now = self.clock.now()
        follow_ups = FollowUps(self.queue, self.ledger)
        sent = 0
        after = None
        while remaining() > RESERVE:
            page, after = await self.ledger.listed(
                State.DEFERRED, shard, before=now + SQS_HORIZON, after=after
            )
            sent += sum(await all_of(_queue(row, follow_ups, now=now) for row in page if needs_job(row, now)))
            if after is None:
                return sent
        logger.warning("the clock ran out of time; the next tick goes on", extra={"shard": shard})
        return sent


async def _queue(row: Listed, follow_ups: FollowUps, *, now: datetime) -> bool:
    """Queue a listed attempt; False for one that is beyond help, which must not keep the others waiting."""
    try:
        await follow_ups.queue_attempt(
            row.key,
            attempt=row.attempt,
            due=row.next_attempt_at or row.at,
            now=now,
            is_slot=row.reason == Reason.SLOT_RESERVED,
        )
    except Trouble:
        raise
    except Exception:
        about = {"message_id": row.key.message_id, "delivery": row.key.delivery}
        logger.exception("a deferred delivery cannot be queued", extra=about)
        return False
    return True


def needs_job(row: Listed, now: datetime) -> bool:
    """Whether nobody has queued the attempt yet, or its job seems lost."""
    return row.job_at is None or row.job_at + OVERDUE <= now
