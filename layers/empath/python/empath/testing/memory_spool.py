"""A Spool in memory."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from empath.domain.errors import SpoolObjectMissing

CHUNK = 65_536
"""Octets that `read` gives at a time."""


class MemorySpool:
    """Objects in a dict; `objects` is open for a test to look into and to break."""

    def __init__(self, *, chunk: int = CHUNK) -> None:
        self.objects: dict[str, bytes] = {}
        self._chunk = chunk

    async def put(self, key: str, content: AsyncIterable[bytes]) -> int:
        octets = b"".join([chunk async for chunk in content])
        self.objects.setdefault(key, octets)
        return len(octets)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        try:
            octets = self.objects[key]
        except KeyError:
            raise SpoolObjectMissing(key) from None
        for start in range(0, len(octets), self._chunk):
            yield octets[start : start + self._chunk]

    async def delete(self, key: str) -> None:
        self.objects.pop(key, None)
