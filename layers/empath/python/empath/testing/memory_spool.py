"""A Spool in memory."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime

from empath.domain.content_policy import KeepDays
from empath.domain.errors import SpoolObjectMissing
from empath.ports.clock import Clock

CHUNK = 65_536
"""Octets that `read` gives at a time."""


class MemorySpool:
    """Objects in a dict; `objects` is open for a test to look into and to break.

    With a clock it knows when each was stored.
    """

    def __init__(self, *, chunk: int = CHUNK, clock: Clock | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self.stored_at: dict[str, datetime] = {}
        self.kept: dict[str, tuple[bytes, KeepDays]] = {}
        self._chunk = chunk
        self._clock = clock

    async def put(self, key: str, content: AsyncIterable[bytes]) -> int:
        octets = b"".join([chunk async for chunk in content])
        if self._clock is not None and key not in self.objects:
            self.stored_at[key] = self._clock.now()
        self.objects.setdefault(key, octets)
        return len(octets)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        try:
            octets = self.objects[key]
        except KeyError:
            raise SpoolObjectMissing(key) from None
        for start in range(0, len(octets), self._chunk):
            yield octets[start : start + self._chunk]

    async def keep(self, key: str, days: KeepDays) -> None:
        if key in self.objects:
            self.kept[key] = (self.objects[key], days)

    async def delete(self, key: str) -> None:
        self.objects.pop(key, None)
