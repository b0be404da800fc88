"""A connection as octets: what is unread has a bound, and nobody waits for what already came."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from empath.net.stream import MAX_UNREAD, MailStream


class Wire(asyncio.Transport):
    """A transport that only remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes | bytearray | memoryview] = []
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(data)

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True


async def test_what_came_is_read_once_and_in_order() -> None:
    stream = MailStream(Wire())
    stream.data_received(b"250 ")
    stream.data_received(b"ok\r\n")
    assert await stream.wait(60)
    assert [stream.has_unread, stream.read(), stream.has_unread, stream.read()] == [
        True,
        b"250 ok\r\n",
        False,
        b"",
    ]


async def test_a_next_hop_that_sends_without_end_is_cut_off() -> None:
    wire = Wire()
    stream = MailStream(wire)
    stream.data_received(b"x" * MAX_UNREAD)
    stream.read()
    stream.data_received(b"x" * MAX_UNREAD)
    ends = [wire.is_aborted]
    stream.data_received(b"x")
    ends.append(wire.is_aborted)
    assert ends == [False, True]
    assert not stream.is_open
    assert len(stream.read()) == MAX_UNREAD + 1


ENDS: dict[str, Callable[[MailStream], None]] = {
    "what comes": lambda stream: stream.data_received(b"x"),
    "room": lambda stream: stream.resume_writing(),
    "the end": lambda stream: stream.eof_received(),
    "a loss": lambda stream: stream.connection_lost(None),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_wait_ends_with_what_comes_with_room_or_with_the_connection(end: str) -> None:
    stream = MailStream(Wire())
    waiting = asyncio.create_task(stream.wait(60))
    await asyncio.sleep(0)
    assert not waiting.done()
    ENDS[end](stream)
    assert await waiting


async def test_a_wait_without_any_of_them_is_over_in_time() -> None:
    assert not await MailStream(Wire()).wait(0)


async def test_nothing_is_sent_on_a_lost_connection() -> None:
    wire = Wire()
    stream = MailStream(wire)
    stream.write(b"QUIT\r\n")
    stream.abort()
    stream.write(b"QUIT\r\n")
    assert wire.sent == [b"QUIT\r\n"]


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux can be told")
async def test_who_waits_for_replies_acknowledges_each_at_once() -> None:
    """Else a next hop that writes one after the other without TCP_NODELAY waits 40 ms before the second."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        transport, _ = await loop.create_connection(asyncio.Protocol, *listening.getsockname())
        peer = listening.accept()[0]
    stream = MailStream(transport)
    transport.set_protocol(stream)
    ours = transport.get_extra_info("socket")
    with peer:
        for _ in range(2):
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)  # as after sending
            peer.send(b"250 ok\r\n")
            assert await stream.wait(60)
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 1
            stream.read()
    stream.abort()
