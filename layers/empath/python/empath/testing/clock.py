"""Time, ids and randomness that a test holds in its hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta
from random import Random

from empath.domain.ulid import encode_ulid

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FIRST_ID = 1 << 40
"""Milliseconds in every id, whatever the clock says."""


class ManualClock:
    """A clock that moves only when it is told to.

    With `auto`, a sleep moves the clock itself and returns; without, a sleep waits until `advance` or
    `run_for` has come that far. Sleepers wake in the order of their times.
    """

    def __init__(self, start: datetime = START, *, auto: bool = False) -> None:
        self._now = start
        self._auto = auto
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return self._now

    @property
    def next_wake(self) -> datetime | None:
        """When the first sleeper wakes; None while nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        if self._auto:
            self.advance(seconds)
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + timedelta(seconds=seconds), next(self._order), waiter))
        await waiter

    def advance(self, seconds: float) -> None:
        """Move time on. Sleepers that are due run when the caller next awaits, and see the new time."""
        self.advance_to(self._now + timedelta(seconds=seconds))

    def advance_to(self, instant: datetime) -> None:
        if instant < self._now:
            raise ValueError("time does not run backwards")
        self._now = instant
        while (wake := self.next_wake) is not None and wake <= instant:
            heapq.heappop(self._sleepers)[2].set_result(None)

    async def run_for(self, seconds: float, *, turns: int = 20) -> None:
        """Move time on sleeper by sleeper, so that each sees its own moment and may sleep again.

        `turns` of the event loop are given to whoever woke before time moves further.
        """
        end = self._now + timedelta(seconds=seconds)
        while True:
            for _ in range(turns):
                await asyncio.sleep(0)
            wake = self.next_wake
            if wake is None or wake > end:
                break
            self.advance_to(max(wake, self._now))
        self.advance_to(end)
        for _ in range(turns):
            await asyncio.sleep(0)


class SequentialIds:
    """Ids shaped like ULIDs that count up, and randomness from a seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)  # noqa: S311 (repeatable on purpose)
        self._next = itertools.count(1)

    def new_id(self) -> str:
        return encode_ulid(FIRST_ID, next(self._next))

    def random(self) -> float:
        return self._random.random()
