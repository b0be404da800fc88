"""Raw messages, byte-exact what the client sent."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol


class Spool(Protocol):
    async def put(self, key: str, content: AsyncIterable[bytes]) -> int:
        """Store an object and return its size in octets; durable on return.

        Never overwrites: an object that is there already stays as it is, and that counts as success,
        for a key is made once and its content with it. Nothing is stored when `content` raises.
        Raises SpoolTrouble.
        """

    def read(self, key: str) -> AsyncIterator[bytes]:
        """The object in chunks. Raises SpoolObjectMissing or SpoolTrouble, before or between chunks."""

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is success. Raises SpoolTrouble."""
