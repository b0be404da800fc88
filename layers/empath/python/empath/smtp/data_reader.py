"""The octets after 354, in chunks: where the content ends, and the transparency undone.

Only CRLF.CRLF ends content (RFC 5321 §4.1.1.4) and a dot is taken away only after CRLF (§4.5.2):
whatever a laxer server would take for an end is a bare CR or LF here, and such a message is noted
as broken, so that nothing can be smuggled past us to a server that reads it differently.
NUL and the other controls are carried: §4.1.1.4 allows "any of the 128 ASCII character codes", and
changing content is not a relay's business; a next hop that minds says so and the sender is told.

Searches whole chunks, for walking line by line costs some 20 ms a megabyte. Holds four octets back
at most: what may turn out to be the beginning of CRLF.CRLF.
"""

from __future__ import annotations

_DOT = b"\r\n."
_END = _DOT + b"\r\n"
_HELD = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")


class DataReader:
    """One message. `feed` until `ended`; `size` counts the octets of content so far."""

    def __init__(self) -> None:
        self.ended = False
        self.size = 0
        self.raw_octets = 0
        """What was fed and was not `rest`."""
        self.has_bare_newline = False
        # The content begins at the start of a line, as if after a CRLF that is not its own.
        self._held = b"\r\n"
        self._foreign = 2

    def feed(self, octets: bytes) -> tuple[bytes, bytes]:
        """Content (may be empty), and the rest: what follows the end, once `ended`."""
        data = self._held + octets
        # Most chunks have no line that begins with a dot, and then one search is all they cost.
        dot = data.find(_DOT)
        end = data.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            self.ended = True
            body, rest = data[: end + 2], data[end + 5 :]
            self._held = b""
        else:
            held = _held_back(data)
            body, rest = data[: len(data) - held], b""
            self._held = data[len(data) - held :]
        self.raw_octets += len(octets) - len(rest)
        if not body:
            return body, rest
        if not self.has_bare_newline:
            pairs = body.count(b"\r\n")
            self.has_bare_newline = body.count(b"\n") != pairs or body.count(b"\r") != pairs
        content = body.replace(_DOT, b"\r\n") if 0 <= dot < len(body) - 2 else body
        if self._foreign:
            content = content[self._foreign :]
            self._foreign = 0
        self.size += len(content)
        return content, rest


def _held_back(data: bytes) -> int:
    """How long the longest end of `data` is that may begin CRLF.CRLF."""
    if not data or data[-1] not in b"\r\n.":
        return 0
    return next((len(held) for held in _HELD if data.endswith(held)), 0)
