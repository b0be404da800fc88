"""How often a message was received already: its `Received` fields, counted while it streams in.

Only the header section is looked at, and of it ten octets are kept between chunks.
"""

from __future__ import annotations

_FIELD = b"\r\nreceived:"
_END_OF_HEADER = b"\r\n\r\n"
_OVERLAP = len(_FIELD) - 1


class HopCounter:
    def __init__(self) -> None:
        self.hops = 0
        self._tail: bytes | None = b"\r\n"  # the first field begins a line, too

    def feed(self, octets: bytes) -> None:
        """Look at the next octets of the content; does nothing once the header section is over."""
        if self._tail is None:
            return
        data = self._tail + octets
        end = data.find(_END_OF_HEADER)
        header = data if end < 0 else data[: end + 2]
        self.hops += header.lower().count(_FIELD)
        self._tail = data[-_OVERLAP:] if end < 0 else None
