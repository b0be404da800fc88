"""Counters that a test can read."""

from __future__ import annotations

from collections import Counter


class CountedMetrics:
    """Metrics in memory: `counts["sent"]` is 0 until something was sent, and so is
    `by_domain["sent", "b.test"]`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.by_domain: Counter[tuple[str, str]] = Counter()

    def count(self, name: str, value: int = 1, *, domain: str | None = None) -> None:
        self.counts[name] += value
        if domain is not None:
            self.by_domain[name, domain] += value
