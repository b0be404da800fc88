"""Time, identifiers and randomness, so that a test can hold all three."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The time in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait; returns at once for nothing or less."""


class IdSource(Protocol):
    def new_id(self) -> str:
        """A ULID: unique, and sorted by the time of its making."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
