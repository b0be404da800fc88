"""Changes of the ledger that the journal gave up on: what is left of them is their place in the stream.

The stream itself keeps them for a day. So long they can be given to the journal once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LostChanges:
    """Changes that follow each other in the stream."""

    name: str
    """The same whenever they are received."""
    receipt: str
    place: str
    """Where they are, in words."""
    count: int
    since: datetime | None
    """When the first of them was made."""
    is_readable: bool = True
    """False: what was received names no place in a stream; `place` says what is wrong with it."""


class LostChangesQueue(Protocol):
    async def receive(self) -> Sequence[LostChanges]:
        """Some of them, hidden for a while; empty when there are no others now. Raises QueueTrouble."""

    async def replay(self, lost: LostChanges) -> bool:
        """Give them to the journal again, in their order; False, and nothing is given, when the stream has
        forgotten them. Raises JournalTrouble when the journal fails again, or cannot be asked."""

    async def forget(self, lost: LostChanges) -> None:
        """Remove them; again is success. Raises QueueTrouble."""
