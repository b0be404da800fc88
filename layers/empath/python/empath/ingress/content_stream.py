"""Content on its way from a socket to the spool: pushed in by callbacks, taken out by a task.

Whoever pushes watches `waiting_octets` and stops reading its socket when it is too much; `on_taken`
tells it that the stream is empty again. One consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class ContentAborted(Exception):
    """The rest of the message will not come, or is not wanted: nothing may be accepted."""


class ContentStream:
    def __init__(self, on_taken: Callable[[], None]) -> None:
        self.waiting_octets = 0
        self._on_taken = on_taken
        self._chunks: list[bytes] = []
        self._ended = False
        self._error: ContentAborted | None = None
        self._wake: asyncio.Future[None] | None = None

    def feed(self, octets: bytes) -> None:
        if self._error is None:
            self._chunks.append(octets)
            self.waiting_octets += len(octets)
            self._notify()

    def end(self) -> None:
        """The message is complete; what the consumer has not taken yet it still gets."""
        self._ended = True
        self._notify()

    def abort(self, error: ContentAborted) -> None:
        """The consumer gets `error` instead of whatever is left, unless it has all already."""
        if self._error is None and not self._ended:
            self._error = error
            self._chunks.clear()
            self.waiting_octets = 0
            self._notify()

    def __aiter__(self) -> ContentStream:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._error is not None:
                raise self._error
            if self._chunks:
                return self._take()
            if self._ended:
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake

    def _take(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        self.waiting_octets = 0
        self._on_taken()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
