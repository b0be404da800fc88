"""Where applications hear what becomes of their mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from empath.domain.lifecycle import LifecycleEvent


class Events(Protocol):
    async def publish(self, events: Sequence[LifecycleEvent]) -> None:
        """Hand over all of them, some perhaps twice. Raises EventsTrouble when not all could be."""
