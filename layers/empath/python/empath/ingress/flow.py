"""A connection's socket: what is written to it, why it is not read, and how it is closed.

A thin layer over asyncio's transport that irons out where asyncio and uvloop differ.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto


class Pause(Enum):
    """Why the socket is not read."""

    __hash__ = object.__hash__  # asked for several times per command; Enum's own is a call into Python

    STORAGE = auto()  # content waits for the spool
    AHEAD = auto()  # input waits for a decision
    OUTPUT = auto()  # the client does not read its replies


class Flow:
    __slots__ = ("paused", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        # TCP_NODELAY is set already: asyncio and uvloop do that for every TCP connection.
        self.transport = transport
        self.paused: frozenset[Pause] = frozenset()

    @property
    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def write(self, octets: bytes) -> None:
        if not self.transport.is_closing():  # uvloop raises then, asyncio only warns
            self.transport.write(octets)

    def pause(self, reason: Pause) -> None:
        if not self.paused and not self.transport.is_closing():
            self.transport.pause_reading()
        self.paused |= {reason}

    def resume(self, reason: Pause) -> bool:
        """Whether that was a reason."""
        if reason not in self.paused:
            return False
        self.paused -= {reason}
        if not self.paused and not self.transport.is_closing():
            self.transport.resume_reading()
        return True

    def stop_reading(self) -> None:
        """For a handshake, which wants the socket's octets for itself."""
        self.transport.pause_reading()

    def use(self, transport: asyncio.Transport) -> None:
        """From now on speak over this one: TLS, which reads by itself."""
        self.transport, self.paused = transport, frozenset()

    def close(self) -> None:
        """Close once all is written."""
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def half_close(self) -> bool:
        """Say that nothing more is written, and read on; False: the connection is gone.

        A close with unread input would be a reset, which takes the last reply with it.
        """
        try:
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()  # TLS reads on by itself until the client has closed, too
        except OSError:  # the client has reset the connection, and the loop has not told yet
            self.transport.abort()
            return False
        return True
