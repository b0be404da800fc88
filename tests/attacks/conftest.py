"""A relay on a real socket that attacks run against, and a client that sends octets as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
import uvloop

from empath.ingress.listener import Listener, serve
from empath.ingress.settings import IngressSettings
from empath.pipeline.accept import Acceptance
from empath.pipeline.jobs import AcceptedJob, decode
from empath.ports import QueueName
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool
from empath.testing.metrics import CountedMetrics

SETTINGS = IngressSettings(port=0, hostname="mx.example", shutdown_grace=0.2)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass
class Target:
    listener: Listener
    spool: MemorySpool
    queue: MemoryJobQueue
    clock: ManualClock

    def jobs(self) -> list[AcceptedJob]:
        return [decode(AcceptedJob, job.body) for job in self.queue.pending(QueueName.ACCEPTED)]

    @property
    def messages(self) -> list[bytes]:
        return list(self.spool.objects.values())

    async def attack(self, *pieces: bytes, pause: float = 0.002) -> list[str]:
        """Send the pieces, each in a packet of its own, half-close, and hear all replies."""
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port)
            hearing = asyncio.create_task(reader.read())
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause)
                writer.write_eof()
            except (OSError, RuntimeError):
                pass  # thrown out in the middle of it
            try:
                return (await hearing).decode("ascii").splitlines()
            finally:
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)


Start = Callable[..., Awaitable[Target]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a relay with some settings changed."""
    async with AsyncExitStack() as stack:

        async def start(**changes: Any) -> Target:
            clock, spool = ManualClock(auto=True), MemorySpool()
            queue = MemoryJobQueue(clock)
            listener = await serve(
                replace(SETTINGS, **changes),
                Acceptance(spool, queue),
                clock,
                SequentialIds(),
                CountedMetrics(),
            )
            stack.push_async_callback(listener.close, 0)
            return Target(listener, spool, queue, clock)

        yield start


@pytest.fixture
async def target(start: Start) -> Target:
    return await start()
