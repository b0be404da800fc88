"""Counters of what happens to mail."""

from __future__ import annotations

from typing import Protocol


class Metrics(Protocol):
    def count(self, name: str, value: int = 1, *, domain: str | None = None) -> None:
        """Add to a counter: `received`, `sent`, `deferred`, `failed`, ... (recipients, not messages).

        With `domain` (a destination, or the host of a next hop) to the one of it, too, as far as the
        deployment wants counters by domain: each one costs money.
        """
