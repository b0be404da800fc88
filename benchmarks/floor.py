"""What an SMTP listener in Python costs at the very least: it reads, finds line ends and answers.

No grammar, no limits, no timers, no errors: nothing to run anywhere. It takes for granted that a client
waits for each reply and sends CRLF.CRLF only at the end of its content.
"""

from __future__ import annotations

import asyncio
from typing import cast

BUFFER = memoryview(bytearray(64 * 1024))
OK = b"250 Ok\r\n"
END = b"\r\n.\r\n"


class Floor(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self._in_content = False
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"220 floor\r\n")

    def get_buffer(self, sizehint: int) -> memoryview:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        octets = self._tail + bytes(BUFFER[:nbytes])
        if self._in_content:
            self._in_content = END not in octets
            self._tail = octets[-4:] if self._in_content else b""
            reply = b"" if self._in_content else OK
        elif not octets.endswith(b"\r\n"):
            self._tail, reply = octets, b""
        else:
            self._tail, reply = b"", OK
            verb = octets[:4]
            if verb == b"DATA":
                self._in_content, reply = True, b"354 Go on\r\n"
            elif verb == b"QUIT":
                self._transport.write(b"221 Bye\r\n")
                self._transport.close()
                return
        if reply:
            self._transport.write(reply)
