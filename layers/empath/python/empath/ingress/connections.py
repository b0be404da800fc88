"""The connections of a listener, counted in all and per client."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

from empath.domain.network import IPAddress

C = TypeVar("C")


class Connections(Generic[C]):
    def __init__(self, limit: int, limit_per_client: int) -> None:
        self._limit = limit
        self._limit_per_client = limit_per_client
        self._members: set[C] = set()
        self._per_client: Counter[IPAddress | None] = Counter()
        self._none_left = asyncio.Event()
        self._none_left.set()

    def has_room_for(self, client: IPAddress | None) -> bool:
        return len(self._members) < self._limit and self._per_client[client] < self._limit_per_client

    def add(self, connection: C, client: IPAddress | None) -> None:
        self._members.add(connection)
        self._per_client[client] += 1
        self._none_left.clear()

    def remove(self, connection: C, client: IPAddress | None) -> None:
        """Forget a connection; one that was never added is ignored."""
        if connection not in self._members:
            return
        self._members.remove(connection)
        self._per_client[client] -= 1
        if not self._per_client[client]:
            del self._per_client[client]
        if not self._members:
            self._none_left.set()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self._members))

    async def none_left(self) -> None:
        await self._none_left.wait()
