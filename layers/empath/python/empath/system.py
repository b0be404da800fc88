"""The real clock, and real ids and randomness."""

from __future__ import annotations

import asyncio
import os
import random
import time
from datetime import UTC, datetime

from empath.domain.ulid import RANDOM_BITS, encode_ulid


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))


class UlidSource:
    """ULIDs that rise within a process, also in one millisecond and when the clock is set back."""

    def __init__(self) -> None:
        self._last = (0, 0)
        self._random = random.SystemRandom()

    def new_id(self) -> str:
        milliseconds, number = self._last
        fresh = (time.time_ns() // 1_000_000, int.from_bytes(os.urandom(RANDOM_BITS // 8)))
        self._last = max(fresh, (milliseconds, number + 1))
        return encode_ulid(*self._last)

    def random(self) -> float:
        return self._random.random()
