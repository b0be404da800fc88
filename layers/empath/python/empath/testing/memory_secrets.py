"""Secrets in memory."""

from __future__ import annotations

from collections.abc import Mapping

from empath.domain.errors import SecretUnusable


class MemorySecrets:
    """Secrets in a dict, which is open for a test."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values = dict(values or {})

    async def text(self, name: str) -> str:
        if name not in self.values:
            raise SecretUnusable(f"there is no secret {name!r}")
        return self.values[name]
