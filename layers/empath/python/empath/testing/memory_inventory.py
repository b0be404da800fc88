"""An Inventory over the in-memory spool and ledger."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import TypeVar

from empath.ports.inventory import Item, RawObject, Unreadable, Upload
from empath.testing.clock import START
from empath.testing.memory_ledger import MemoryLedger
from empath.testing.memory_spool import MemorySpool

T = TypeVar("T")


class MemoryInventory:
    """Pages of `page` entries; `unfinished` and `unreadable` are for a test to put things into."""

    def __init__(self, spool: MemorySpool, ledger: MemoryLedger, *, page: int = 100) -> None:
        self._spool = spool
        self._ledger = ledger
        self._page = page
        self.unfinished: list[Upload] = []
        self.unreadable: list[Unreadable] = []

    async def objects(self) -> AsyncIterator[Sequence[RawObject]]:
        keys = sorted(key for key in self._spool.objects if key.startswith("messages/"))
        for page in self._pages(keys):
            # What was deleted meanwhile is not there any more, as in a listing that goes on.
            yield [found for key in page if (found := self._object(key)) is not None]

    async def object(self, key: str) -> RawObject | None:
        return self._object(key)

    async def uploads(self) -> AsyncIterator[Sequence[Upload]]:
        for page in self._pages(self.unfinished):
            yield page

    async def give_up(self, upload: Upload) -> None:
        if upload in self.unfinished:
            self.unfinished.remove(upload)

    async def unclosed(self, segment: int, segments: int) -> AsyncIterator[Sequence[Item]]:
        messages = [known for known in self._ledger.messages() if known.forget_at is None]
        deliveries = [known for known in self._ledger.all_deliveries() if known.forget_at is None]
        items: list[Item] = [*deliveries, *messages, *self.unreadable]
        items.sort(key=lambda item: (zlib.crc32(item.message_id.encode()), item.message_id))
        for page in self._pages([item for item in items if _segment(item, segments) == segment]):
            yield page

    async def closed(self, message_ids: Collection[str]) -> Mapping[str, bool]:
        known = {identifier: await self._ledger.message(identifier) for identifier in message_ids}
        return {
            identifier: message.forget_at is not None
            for identifier, message in known.items()
            if message is not None
        }

    async def story(self, message_id: str) -> Sequence[Item]:
        message = await self._ledger.message(message_id)
        deliveries = await self._ledger.deliveries(message_id)
        broken = [item for item in self.unreadable if item.message_id == message_id]
        return [*deliveries, *([message] if message is not None else []), *broken]

    def _object(self, key: str) -> RawObject | None:
        content = self._spool.objects.get(key)
        if content is None:
            return None
        return RawObject(key, len(content), self._spool.stored_at.get(key, START))

    def _pages(self, entries: Sequence[T]) -> list[list[T]]:
        return [list(entries[start : start + self._page]) for start in range(0, len(entries), self._page)]


def _segment(item: Item, segments: int) -> int:
    return zlib.crc32(item.message_id.encode()) * segments >> 32
