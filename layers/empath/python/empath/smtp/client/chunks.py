"""Content for BDAT (RFC 3030 §2): gathered until a chunk is full, for its size goes before it."""

from __future__ import annotations

_LAST = {True: b" LAST", False: b""}


class Chunks:
    def __init__(self, size: int) -> None:
        """`size` in octets is what makes a chunk full; one holds less only at the end."""
        self._size = size
        self._gathered: list[bytes] = []

    def add(self, block: bytes, *, last: bool, may_go: bool) -> tuple[bytes, list[bytes]] | None:
        """The command line and the octets of a chunk that is to be sent now, None for not yet.

        The last one goes in any case, others only where they `may_go`.
        """
        self._gathered.append(block)
        octets = sum(map(len, self._gathered))
        if not (last or (may_go and octets >= self._size)):
            return None
        content, self._gathered = self._gathered, []
        return b"BDAT %d%s\r\n" % (octets, _LAST[last]), content
