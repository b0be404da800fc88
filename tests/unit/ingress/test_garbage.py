"""What sessions leave behind: nothing that has to be found by the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from empath.ingress.connection import Connection
from empath.ingress.listener import serve
from empath.ingress.settings import IngressSettings
from empath.pipeline.accept import Acceptance
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool
from empath.testing.metrics import CountedMetrics

MESSAGE = b"MAIL FROM:<a@one.example>\r\nRCPT TO:<b@two.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def connections() -> int:
    return sum(isinstance(known, Connection) for known in gc.get_objects())


@pytest.mark.parametrize("last_words", [b"QUIT\r\n", b"", b"MAIL FROM:<a@one.example>\r\n"])
async def test_a_session_is_gone_with_its_connection(no_collector: None, last_words: bytes) -> None:
    clock = ManualClock()
    acceptance = Acceptance(MemorySpool(), MemoryJobQueue(clock))
    listener = await serve(IngressSettings(port=0), acceptance, clock, SequentialIds(), CountedMetrics())
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"EHLO client.example\r\n" + MESSAGE)
        await reader.readuntil(b"queued as")
        assert connections() == 1
        writer.write(last_words)
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            while connections():
                await asyncio.sleep(0.01)
    finally:
        await listener.close(grace=0)
