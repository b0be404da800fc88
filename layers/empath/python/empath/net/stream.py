"""A connection as octets: what came and was not read yet, room to send, and how long to wait for either.

Plain `data_received` and one waiter: asyncio's streams cost a task and a timer per read.

Whoever waits has the kernel acknowledge at once what comes. A next hop that answers a flight by a write for
each reply and without TCP_NODELAY (Haraka) keeps its second reply back until the first is acknowledged
(RFC 896), and a receiver may take its time for that (RFC 9293 §3.8.6.3): 40 ms a message on Linux.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

MAX_UNREAD = 262_144
"""Octets that may wait to be read. No reply needs more, so a next hop that sends more is cut off."""


class MailStream(asyncio.Protocol):
    """One connection, after it was negotiated."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._socket = transport.get_extra_info("socket") if hasattr(socket, "TCP_QUICKACK") else None
        self._loop = asyncio.get_running_loop()
        self._unread: list[bytes] = []
        self._octets_unread = 0
        self._waiter: asyncio.Future[bool] | None = None
        self._has_ended = False
        self.is_full = False
        """Whether what was sent still waits to leave, and no more should be added."""

    @property
    def is_open(self) -> bool:
        """Whether both sides may still say something, as far as is known."""
        return not (self._has_ended or self._transport.is_closing())

    @property
    def has_unread(self) -> bool:
        return bool(self._unread)

    def read(self) -> bytes:
        """What came so far, maybe nothing."""
        octets = b"".join(self._unread)
        self._unread.clear()
        self._octets_unread = 0
        return octets

    def write(self, octets: bytes) -> None:
        """Send; when the connection is lost, nothing happens."""
        if not self._transport.is_closing():
            self._transport.write(octets)

    async def wait(self, timeout: float) -> bool:
        """Wait until something comes, there is room again or the connection ends; False: not in time.

        Returns at once when something is unread or the connection has ended.
        """
        if self._unread or not self.is_open:
            return True
        self._acknowledge_at_once()
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiter = waiter
        timer = self._loop.call_later(timeout, _wake, waiter, False)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def abort(self) -> None:
        """Drop the connection at once, whatever is still unsent."""
        self._has_ended = True
        self._transport.abort()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._unread.append(data)
        self._octets_unread += len(data)
        if self._octets_unread > MAX_UNREAD:
            self.abort()
        self._rouse()

    def eof_received(self) -> None:
        self._has_ended = True
        self._rouse()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_ended = True
        self._rouse()

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self._rouse()

    def _acknowledge_at_once(self) -> None:
        """Linux forgets it with what is sent next."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # of a connection that is lost, which is heard of by itself
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _rouse(self) -> None:
        if self._waiter is not None:
            _wake(self._waiter, True)


def _wake(waiter: asyncio.Future[bool], in_time: bool) -> None:
    if not waiter.done():
        waiter.set_result(in_time)
