"""Allowances in memory."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from empath.ports.quotas import window_start


class MemoryQuotas:
    """`taken` is what was granted, by key and start of the window."""

    def __init__(self) -> None:
        self.taken: Counter[tuple[str, datetime]] = Counter()

    async def take(self, key: str, wanted: int, *, limit: int, window: timedelta, now: datetime) -> int:
        place = (key, window_start(now, window))
        granted = max(0, min(wanted, limit - self.taken[place]))
        self.taken[place] += granted
        return granted
