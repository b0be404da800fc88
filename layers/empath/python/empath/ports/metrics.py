"""Counters of what happens to mail."""

from __future__ import annotations

from typing import Protocol


class Metrics(Protocol):
    def count(self, name: str, value: int = 1) -> None:
        """Add to a counter: `received`, `sent`, `deferred`, `failed`, ... (recipients, not messages)."""
