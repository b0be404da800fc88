"""When the store of the gates does not answer, a worker goes on alone for a while, and says so.

One site's item may be throttled, or change too quickly, while all others answer: then only that site's limits
hold in the worker alone. Where a second one does not answer either, the store is taken to be away.
"""

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
        self._until: dict[str, datetime] = {}
        """By what was asked about: a site, or none."""

    @property
    def is_alone(self) -> bool:
        """Whether the store is away, for whatever is not about one site."""
        return self.is_alone_with("")

    def is_alone_with(self, site: str) -> bool:
        """Whether there is no asking about a site now."""
        now = self._clock.now()
        silent = [about for about, until in self._until.items() if now < until]
        return len(silent) > 1 or site in silent

    def let_down(self, what: str, error: ControlTrouble, site: str = "") -> None:
        """The store did not answer: the limits hold in this process alone now, not over all of them."""
        now = self._clock.now()
        self._until = {about: until for about, until in self._until.items() if now < until}
        self._until[site] = now + ALONE_FOR
        self._metrics.count("gates_unreachable")
        logger.warning("%s: %s; this worker keeps to the limits by itself", what, error)
