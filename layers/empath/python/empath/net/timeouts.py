"""How long each step of an SMTP session may take; RFC 5321 §4.5.3.2 allows more, Lambda time costs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

MOST_RESERVE = 5.0
RESERVED_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    connect: float = 30
    greeting: float = 60
    hello: float = 30
    tls: float = 30
    auth: float = 30
    mail: float = 30
    rcpt: float = 30
    data: float = 120
    block: float = 180
    """For one block of content to find room in the socket."""
    final: float = 300
    """From the final dot to its reply: too short means mail sent twice (RFC 5321 §4.5.3.2.6)."""
    reset: float = 30
    quit: float = 10


DEFAULT_TIMEOUTS = Timeouts()


@dataclass(slots=True)
class Deadline:
    """The end of the time that a session has; `within` is in seconds from now."""

    within: float
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._at = asyncio.get_running_loop().time() + self.within

    @property
    def remaining(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self._at - asyncio.get_running_loop().time())

    def cut(self, timeout: float) -> float:
        """`timeout`, or less when the session must end before."""
        return min(timeout, self.remaining)

    @property
    def leaves_time_for_a_reply(self) -> bool:
        """Whether the final dot may still be sent: without time to hear the answer it would only make
        the attempt ambiguous. A tenth of the session's time is kept for it, at most 5 s."""
        return self.remaining > min(MOST_RESERVE, self.within * RESERVED_SHARE)
