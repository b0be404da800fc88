"""How long a client may take for its content.

Time as a bucket: it holds `block` seconds at most, runs out as time goes by, and each octet pours
`1 / min_rate` seconds into it. So a silence ends after `block` seconds (RFC 5321 §4.5.3.2.5), and so
does, sooner or later, a trickle of one octet every now and then that no timeout per read would notice.
"""

from __future__ import annotations


class Pace:
    __slots__ = ("_block", "_ends", "_rate")

    def __init__(self, now: float, *, block: float, min_rate: float) -> None:
        """Seconds, and octets a second."""
        self._block = block
        self._rate = min_rate
        self._ends = now + block

    def received(self, octets: int, now: float) -> float:
        """When the client's time is over, now that it has sent so much more."""
        self._ends = min(self._ends + octets / self._rate, now + self._block)
        return self._ends

    def resumed(self, now: float) -> None:
        """The waiting was ours; it does not count."""
        self._ends = now + self._block
