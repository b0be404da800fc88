"""Counters in CloudWatch's embedded metric format: one JSON line per flush, no API call.

Counted in memory and written once (per invocation in Lambda, every few seconds in the ingress), so a
counter costs an addition. Powertools writes the line; its import comes with the logger's.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from empath.ports import Clock

NAMESPACE = "Empath"
SERVICE = "empath"
FLUSH_EVERY = 10.0
"""Seconds between two flushes of a process that knows no invocations."""


class EmfMetrics:
    """`ports.Metrics`, written to standard output by `flush`; for one thread (one event loop)."""

    def __init__(self, function: str, *, namespace: str = NAMESPACE, service: str = SERVICE) -> None:
        self._function = function
        self._namespace = namespace
        self._service = service
        self._counts: Counter[str] = Counter()

    def count(self, name: str, value: int = 1) -> None:
        self._counts[name] += value

    def flush(self) -> None:
        """Write what was counted since the last flush; nothing when there is nothing."""
        if not self._counts:
            return
        counts, self._counts = self._counts, Counter()
        # Of its own for every flush: Powertools' Metrics is one per process, and its clearing forgets
        # the dimensions.
        line = EphemeralMetrics(namespace=self._namespace, service=self._service)
        line.add_dimension("function", self._function)
        for name, value in counts.items():
            line.add_metric(name, MetricUnit.Count, value)
        line.flush_metrics()

    async def flush_forever(self, clock: Clock, every: float = FLUSH_EVERY) -> None:
        """Flush each `every` seconds until cancelled, and once more then."""
        try:
            while True:
                await clock.sleep(every)
                self._flush_safely()
        finally:
            self._flush_safely()

    def _flush_safely(self) -> None:
        with suppress(OSError):  # a closed standard output ends the counting, not the mail
            self.flush()
