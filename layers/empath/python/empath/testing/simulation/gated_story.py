"""Where mail's story is told, as simulated workers reach it: audit trail, event bus, suppression list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from empath.domain.audit_chain import Head
from empath.domain.errors import AuditTrouble, ControlTrouble, EventsTrouble
from empath.domain.lifecycle import LifecycleEvent
from empath.domain.suppression import Suppression
from empath.testing.memory_audit import MemoryAudit
from empath.testing.memory_suppressions import MemorySuppressions
from empath.testing.simulation.ports import Gate
from empath.testing.simulation.process import SCOPE


class Listener(Protocol):
    """What the invariants of the story want to hear of, as it happens."""

    def head_moved(self, head: Head) -> None: ...
    def told(self, events: Sequence[LifecycleEvent]) -> None: ...


class ListListener(Protocol):
    """What the invariants of the list want to hear of."""

    def listed(self, entry: Suppression) -> None: ...


class GatedAudit:
    """Readers of one shard of the stream share what they remember of heads, as a warm function does."""

    def __init__(self, gate: Gate, audit: MemoryAudit, listener: Listener) -> None:
        self._gate, self._audit, self._listener = gate, audit, listener
        self._known: defaultdict[str, dict[int, Head]] = defaultdict(dict)

    async def put_new(self, key: str, content: bytes) -> bool:
        return await self._gate.call(
            "audit.put_new", lambda: self._audit.put_new(key, content), trouble=AuditTrouble, about=key
        )

    async def get(self, key: str) -> bytes | None:
        return await self._gate.call(
            "audit.get", lambda: self._audit.get(key), trouble=AuditTrouble, about=key
        )

    def keys(self, prefix: str) -> AsyncIterator[str]:
        raise AssertionError("no stage lists the trail")

    async def head(self, shard: int, *, fresh: bool = True) -> Head | None:
        known = self._known[SCOPE.get().label]
        if not fresh and shard in known:
            return known[shard]
        head = await self._gate.call(
            "audit.head", lambda: self._audit.head(shard), trouble=AuditTrouble, about=shard
        )
        if head is not None:
            known[shard] = head
        return head

    async def advance(self, head: Head) -> bool:
        async def effect() -> bool:
            moved = await self._audit.advance(head)
            if moved:
                self._listener.head_moved(head)
            return moved

        moved = await self._gate.call(
            "audit.advance", effect, trouble=AuditTrouble, about=f"{head.shard} to {head.number}"
        )
        known = self._known[SCOPE.get().label]
        if moved:
            known[head.shard] = head
        else:
            known.pop(head.shard, None)
        return moved


class GatedEvents:
    def __init__(self, gate: Gate, listener: Listener) -> None:
        self._gate, self._listener = gate, listener

    async def publish(self, events: Sequence[LifecycleEvent]) -> None:
        async def effect() -> None:
            self._listener.told(events)

        async def partly(amount: float) -> None:
            self._listener.told(events[: int(amount * len(events))])

        await self._gate.call(
            "events.publish", effect, trouble=EventsTrouble, partly=partly, about=f"x{len(events)}"
        )


class GatedSuppressions:
    def __init__(self, gate: Gate, suppressions: MemorySuppressions, listener: ListListener) -> None:
        self._gate, self._suppressions, self._listener = gate, suppressions, listener

    async def find(self, addresses: Iterable[str], *, now: datetime) -> Mapping[str, Suppression]:
        return await self._gate.call(
            "suppressions.find",
            lambda: self._suppressions.find(addresses, now=now),
            trouble=ControlTrouble,
        )

    async def add(self, entry: Suppression) -> bool:
        async def effect() -> bool:
            self._listener.listed(entry)
            return await self._suppressions.add(entry)

        return await self._gate.call("suppressions.add", effect, trouble=ControlTrouble, about=entry.address)

    async def remove(self, address: str) -> bool:
        raise AssertionError("no stage takes an address off the list")

    def all(self) -> AsyncIterator[Suppression]:
        raise AssertionError("no stage reads the whole list")
