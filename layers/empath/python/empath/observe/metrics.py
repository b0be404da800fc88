"""Counters in CloudWatch's embedded metric format: one JSON line per flush (and domain), no API call.

Counted in memory and written once (per invocation in Lambda, every few seconds in the ingress), so a
counter costs an addition. Powertools writes the line; its import comes with the logger's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from contextlib import suppress

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from empath.ports import Clock

NAMESPACE = "Empath"
SERVICE = "empath"
OTHER = "other"
"""The domain of everything that happens to domains without counters of their own."""
FLUSH_EVERY = 10.0
"""Seconds between two flushes of a process that knows no invocations."""


class EmfMetrics:
    """`ports.Metrics`, written to standard output by `flush`; for one thread (one event loop)."""

    def __init__(
        self,
        function: str,
        *,
        domains: Collection[str] = (),
        namespace: str = NAMESPACE,
        service: str = SERVICE,
    ) -> None:
        """With `domains` what happens to them is counted by domain, too, and all others as one."""
        self._function = function
        self._domains = frozenset(domains)
        self._namespace = namespace
        self._service = service
        self._counts: defaultdict[str | None, Counter[str]] = defaultdict(Counter)

    def count(self, name: str, value: int = 1, *, domain: str | None = None) -> None:
        self._counts[None][name] += value
        if domain is not None and self._domains:
            self._counts[domain if domain in self._domains else OTHER][name] += value

    def flush(self) -> None:
        """Write what was counted since the last flush; nothing when there is nothing."""
        if not self._counts:
            return
        counts, self._counts = self._counts, defaultdict(Counter)
        for domain, counted in counts.items():
            # Of its own for every flush: Powertools' Metrics is one per process, and its clearing forgets
            # the dimensions.
            line = EphemeralMetrics(namespace=self._namespace, service=self._service)
            line.add_dimension("function", self._function)
            if domain is not None:
                line.add_dimension("domain", domain)
            for name, value in counted.items():
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
