"""Audit blocks and lifecycle events in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from empath.domain.audit_chain import Head
from empath.domain.lifecycle import LifecycleEvent


class MemoryAudit:
    """`objects` and `heads` are open for a test to look into and to tamper with."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.heads: dict[int, Head] = {}

    async def put_new(self, key: str, content: bytes) -> bool:
        if key in self.objects:
            return False
        self.objects[key] = content
        return True

    async def get(self, key: str) -> bytes | None:
        return self.objects.get(key)

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield key

    async def head(self, shard: int, *, fresh: bool = True) -> Head | None:
        return self.heads.get(shard)

    async def advance(self, head: Head) -> bool:
        known = self.heads.get(head.shard)
        if (known.number if known else -1) != head.number - 1:
            return False
        self.heads[head.shard] = head
        return True


class MemoryEvents:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[LifecycleEvent] = []

    async def publish(self, events: Sequence[LifecycleEvent]) -> None:
        self.told.extend(events)
