"""Counters that a test can read."""

from __future__ import annotations

from collections import Counter


class CountedMetrics:
    """Metrics in memory: `counts["sent"]` is 0 until something was sent."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, name: str, value: int = 1) -> None:
        self.counts[name] += value
