"""Raw messages, byte-exact what the client sent."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol

from empath.domain.content_policy import KeepDays


class Spool(Protocol):
    async def put(self, key: str, content: AsyncIterable[bytes]) -> int:
        """Store an object and return its size in octets; durable on return.

        Never overwrites: an object that is there already stays as it is, and that counts as success,
        for a key is made once and its content with it. Nothing is stored when `content` raises.
        Raises SpoolTrouble.
        """

    def read(self, key: str) -> AsyncIterator[bytes]:
        """The object in chunks. Raises SpoolObjectMissing or SpoolTrouble, before or between chunks."""

    async def keep(self, key: str, days: KeepDays) -> None:
        """Copy an object to where it stays for so many days, out of the relay's way; again is success, and so
        is one that is not there. Raises SpoolTrouble."""

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is success. Raises SpoolTrouble."""
