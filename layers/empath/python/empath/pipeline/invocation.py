"""The time of a worker: what it begins must have come to its end, and be recorded, before that is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_RESERVE = 10.0
"""Seconds of an invocation kept for recording what happened (a fifth of it when it is short)."""

MINIMUM_FOR_ATTEMPT = 5.0
"""Seconds that must be left, beyond the reserve, for an attempt to be begun at all."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of a worker: how many seconds it has left, and how many of them are for recording."""

    remaining: Callable[[], float]
    reserve: float
    whole: float = 0.0
    """Seconds that it had at its beginning."""

    @classmethod
    def begun(cls, remaining: Callable[[], float]) -> Invocation:
        """An invocation that begins now."""
        whole = remaining()
        return cls(remaining, min(MAX_RESERVE, whole / 5), whole)

    @property
    def for_attempts(self) -> float:
        """Seconds left for talking to next hops."""
        return self.remaining() - self.reserve

    def has_time(self, takes: float = 0.0) -> bool:
        """Whether an attempt may begin that takes so many seconds as a rule.

        With half as much again; where no invocation has that much, it begins early in one.
        """
        enough = min(1.5 * takes, 0.8 * (self.whole - self.reserve))
        return self.for_attempts >= max(MINIMUM_FOR_ATTEMPT, enough)
