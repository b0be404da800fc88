"""What the last calls of the spool and the queue came to, noted as they pass."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from types import TracebackType

from empath.domain.content_policy import KeepDays
from empath.domain.errors import Trouble
from empath.ports import JobQueue, OutgoingJob, QueueName, ReceivedJob, Spool

Time = Callable[[], float]
"""Seconds from anywhere, never backwards."""


class CallWatch:
    """`with watch:` around a call notes its end, which is a success or a Trouble.

    Anything else (the client went away, the store was given up) says nothing about who was called.
    """

    __slots__ = ("_time", "is_fine", "noted_at")

    def __init__(self, time: Time) -> None:
        self._time = time
        self.is_fine: bool | None = None
        """Whether the last call that ended did what it should; None before the first."""
        self.noted_at: float = time()

    @property
    def age(self) -> float:
        """Seconds since the last note (since the beginning, before the first)."""
        return self._time() - self.noted_at

    def note(self, *, is_fine: bool) -> None:
        self.is_fine = is_fine
        self.noted_at = self._time()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.note(is_fine=True)
        elif isinstance(error, Trouble):
            self.note(is_fine=False)


class WatchedSpool:
    def __init__(self, spool: Spool, watch: CallWatch) -> None:
        self._spool = spool
        self._watch = watch

    async def put(self, key: str, content: AsyncIterable[bytes]) -> int:
        with self._watch:
            return await self._spool.put(key, content)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        with self._watch:
            async for chunk in self._spool.read(key):
                yield chunk

    async def keep(self, key: str, days: KeepDays) -> None:
        with self._watch:
            await self._spool.keep(key, days)

    async def delete(self, key: str) -> None:
        with self._watch:
            await self._spool.delete(key)


class WatchedQueue:
    def __init__(self, queue: JobQueue, watch: CallWatch) -> None:
        self._queue = queue
        self._watch = watch

    async def send(self, queue: QueueName, jobs: Sequence[OutgoingJob]) -> None:
        with self._watch:
            await self._queue.send(queue, jobs)

    async def hide(self, queue: QueueName, receipt: str, seconds: int) -> None:
        with self._watch:
            await self._queue.hide(queue, receipt, seconds)

    async def receive_dead(self, queue: QueueName, limit: int = 10) -> list[ReceivedJob]:
        with self._watch:
            return await self._queue.receive_dead(queue, limit)

    async def delete_dead(self, queue: QueueName, receipt: str) -> None:
        with self._watch:
            await self._queue.delete_dead(queue, receipt)
