"""What a Lambda process is made of."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from empath.bootstrap.collector import imported
from empath.bootstrap.ports import Ports
from empath.config.functions import FunctionConfig
from empath.observe import tracing
from empath.observe.logging import configure
from empath.observe.metrics import EmfMetrics

T = TypeVar("T")


class Runtime:
    """What a Lambda process keeps between invocations."""

    def __init__(self, config: FunctionConfig) -> None:
        self.config = config
        self.metrics = EmfMetrics(config.function, domains=config.metric_domains)
        self._loop = asyncio.new_event_loop()
        self.ports = Ports(config, metrics=self.metrics, loop=self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run an invocation's work to its end, and write its counters, whatever the end."""
        try:
            return self._loop.run_until_complete(work)
        finally:
            self.metrics.flush()

    def close(self) -> None:
        """For tests: Lambda ends a process without asking."""
        self._loop.run_until_complete(self.ports.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def functions_runtime(environ: Mapping[str, str] | None = None) -> Runtime:
    """Logging, tracing and a Runtime as the environment says; once, when a door's module is imported.

    Raises ConfigError, which ends the initialisation with the name of the variable in the log.
    """
    config = FunctionConfig.from_environment(os.environ if environ is None else environ)
    configure(config.function, config.log_level)
    tracing.configure(config.tracing == "on")
    imported()
    return Runtime(config)
