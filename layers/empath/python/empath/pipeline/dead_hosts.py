"""Which hosts did not answer a short while ago, so that they are tried last.

Per process and forgotten after minutes: a memory that saves waiting for a connection that will not come. It
never keeps a host from being tried, so a wrong memory costs an order and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

from empath.domain.errors import Refusal
from empath.domain.network import IPAddress
from empath.domain.reason import Reason
from empath.ports import Clock, Endpoint

DEAD_FOR = timedelta(minutes=5)

MAX_KNOWN = 1000
"""Addresses remembered at a time."""

_SILENT = frozenset({Reason.CONNECTION_FAILED, Reason.CONNECTION_LOST, Reason.TIMEOUT})
"""What says that nobody is there. A host that refuses in words is alive, and may be right."""


class DeadHosts:
    """The addresses and ports of one process to which a connection failed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: OrderedDict[tuple[IPAddress, int], datetime] = OrderedDict()

    def __contains__(self, endpoint: Endpoint) -> bool:
        until = self._until.get((endpoint.address, endpoint.port))
        return until is not None and self._clock.now() < until

    def note(self, endpoint: Endpoint, refusal: Refusal) -> None:
        """Connecting ended with `refusal`."""
        if refusal.reason not in _SILENT:
            self.forget(endpoint)
            return
        key = (endpoint.address, endpoint.port)
        self._until[key] = self._clock.now() + DEAD_FOR
        self._until.move_to_end(key)
        if len(self._until) > MAX_KNOWN:
            self._until.popitem(last=False)

    def forget(self, endpoint: Endpoint) -> None:
        """It answers."""
        self._until.pop((endpoint.address, endpoint.port), None)
