"""One timer per connection for deadlines that move with every command.

Moving a deadline costs an assignment: the timer stays where it is, and when it fires too early it is
set again for what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    def __init__(self, loop: asyncio.AbstractEventLoop, on_passed: Callable[[], None]) -> None:
        self._loop = loop
        self._on_passed = on_passed
        self._at = 0.0
        self._timer: asyncio.Handle | None = None
        self._fires_at = 0.0  # uvloop's handles for times in the past do not say

    def set(self, at: float) -> None:
        """Pass at `at` on the loop's clock."""
        self._at = at
        if self._timer is None or self._fires_at > at:
            self._arm(at)

    def cancel(self) -> None:
        """Never pass any more. Who was to be told is forgotten: a cycle of references would leave a
        closed connection to the garbage collector, whose work was a tenth of a connection's CPU."""
        self._disarm()
        self._on_passed = _nothing

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        self._disarm()
        self._timer, self._fires_at = self._loop.call_at(at, self._fire), at

    def _fire(self) -> None:
        self._timer = None
        if self._loop.time() < self._at:
            self._arm(self._at)
        else:
            self._on_passed()


def _nothing() -> None:
    """What passes when nobody waits."""
