"""When the store of the gates does not answer, a worker goes on alone for a while, and says so."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from empath.domain.errors import ControlTrouble
from empath.ports import Clock, Metrics

ALONE_FOR = timedelta(seconds=10)
"""Until the store is asked again: a question to one that does not answer costs all the SDK's patience."""

logger = logging.getLogger(__name__)


class Reach:
    """Whether the store can be reached, as far as is known."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock, self._metrics = clock, metrics
        self._alone_until: datetime | None = None

    @property
    def is_alone(self) -> bool:
        return self._alone_until is not None and self._clock.now() < self._alone_until

    def let_down(self, what: str, error: ControlTrouble) -> None:
        """The store did not answer: the limits hold in this process alone now, not over all of them."""
        self._alone_until = self._clock.now() + ALONE_FOR
        self._metrics.count("gates_unreachable")
        logger.warning("%s: %s; this worker keeps to the limits by itself", what, error)
