"""Secrets: certificates' keys, passwords at next hops."""

from __future__ import annotations

from typing import Protocol


class Secrets(Protocol):
    async def text(self, name: str) -> str:
        """The current value of the secret with that name or ARN, read anew each time.

        Raises SecretUnusable when there is none, or none that this process may read, and SecretTrouble when
        it cannot be told now.
        """
