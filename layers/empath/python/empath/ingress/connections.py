"""The connections of a listener, counted in all and per client."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

from empath.domain.network import IPAddress

C = TypeVar("C")


class Connections(Generic[C]):
    """First a connection is added, and when it is known whose it is, it is counted for that client."""

    def __init__(self, limit: int, limit_per_client: int) -> None:
        self._limit = limit
        self._limit_per_client = limit_per_client
        self._members: dict[C, IPAddress | None] = {}
        self._per_client: Counter[IPAddress] = Counter()
        self._none_left = asyncio.Event()
        self._none_left.set()

    def add(self, connection: C) -> bool:
        """Whether there is room for it; it is not added where there is none."""
        if len(self._members) >= self._limit:
            return False
        self._members[connection] = None
        self._none_left.clear()
        return True

    def count_for(self, connection: C, client: IPAddress | None) -> bool:
        """Whether the client may have it, too; if not, it is removed. All that are nobody's have one limit,
        that of all."""
        if client is None:
            return True
        if self._per_client[client] >= self._limit_per_client:
            self.remove(connection)
            return False
        self._members[connection] = client
        self._per_client[client] += 1
        return True

    def remove(self, connection: C) -> None:
        """Forget a connection; one that is not known is ignored."""
        if connection not in self._members:
            return
        client = self._members.pop(connection)
        if client is not None:
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
