"""Octets on their way in, taken out as command lines or as they are.

Only CRLF ends a line (RFC 5321 §2.3.8). A line that cannot be one, for its length or for a bare CR
or LF, is reported the moment this is certain, once, and its rest is thrown away up to its CRLF: one
line, one reply, whatever stands in it. So the memory held is bounded by the longest line allowed
plus what the owner lets pile up while a decision is awaited.
"""

from __future__ import annotations

import re

from empath.domain.reply import Reply
from empath.smtp import replies

_CRLF = b"\r\n"
_BARE = re.compile(rb"(?<!\r)\n|\r[^\n]")


class InputBuffer:
    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._octets = b""
        self._start = 0
        self._scanned = 0
        self._discarding = False

    def __len__(self) -> int:
        return len(self._octets) - self._start

    def append(self, octets: bytes) -> None:
        if not self._octets:
            self._octets = octets
            return
        self._octets = self._octets[self._start :] + octets
        self._scanned = max(self._scanned - self._start, 0)
        self._start = 0

    def take_all(self) -> bytes:
        """Everything that is here."""
        octets = self._octets[self._start :] if self._start else self._octets
        self.clear()
        return octets

    def take(self, limit: int) -> bytes:
        """What is here, `limit` octets of it at most."""
        end = self._start + limit
        if end >= len(self._octets):
            return self.take_all()
        octets = self._octets[self._start : end]
        self._skip_to(end)
        return octets

    def clear(self) -> None:
        self._octets = b""
        self._start = self._scanned = 0

    def take_line(self, max_line: int | None = None) -> bytes | Reply | None:
        """The next line without its CRLF, the reply to one that is none, or None: more input is needed."""
        if not self._octets:
            return None
        max_line = max_line or self._max_line
        if self._discarding and not self._discard():
            return None
        octets, start = self._octets, self._start
        end = octets.find(_CRLF, self._scanned)
        if 0 <= end <= start + max_line - 2:
            line = octets[start:end]
            if b"\r" not in line and b"\n" not in line:
                self._skip_to(end + 2)
                return line
        seen = octets[start : start + max_line]
        bare = _BARE.search(seen)
        if bare is not None:
            return self._refuse(bare.start() + 1, replies.BARE_NEWLINE_IN_COMMAND)
        if len(seen) == max_line:
            return self._refuse(len(seen) - 1, replies.LINE_TOO_LONG)
        self._scanned = max(len(octets) - 1, start)
        return None

    def _refuse(self, length: int, reply: Reply) -> Reply:
        self._skip_to(self._start + length)
        self._discarding = True
        return reply

    def _discard(self) -> bool:
        end = self._octets.find(_CRLF, self._start)
        if end < 0:
            last = len(self._octets) - self._octets.endswith(b"\r")
            self._skip_to(max(last, self._start))
            return False
        self._skip_to(end + 2)
        self._discarding = False
        return True

    def _skip_to(self, position: int) -> None:
        self._start = self._scanned = position
        if position >= len(self._octets):
            self.clear()
