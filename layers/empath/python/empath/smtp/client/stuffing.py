"""Dot-stuffing block by block (RFC 5321 §4.5.2); every octet of the content is left as it is.

Only CRLF ends a line: a dot after a bare LF is no dot at the start of a line and is not doubled.
"""

from __future__ import annotations

CRLF = b"\r\n"


class DotStuffer:
    def __init__(self) -> None:
        self._tail = CRLF  # the last two octets; the content begins at the start of a line

    def feed(self, block: bytes) -> bytes:
        """`block` as it goes on the wire; lines may be split over blocks anywhere."""
        tail = self._tail
        joined = tail + block
        self._tail = joined[-2:]
        return joined.replace(b"\r\n.", b"\r\n..")[len(tail) :]

    def end(self) -> bytes:
        """The final dot, after the line end that SMTP needs and content may lack."""
        return b".\r\n" if self._tail == CRLF else b"\r\n.\r\n"
