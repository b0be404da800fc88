"""Gates in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from empath.domain.circuit import CLOSED, Circuit, Probe
from empath.domain.line import Ask, Book, Turn, take_turns
from empath.ports.gates import Change


class MemoryGates:
    """`updates` counts what would be writes: slots, places, changes of circuits, connections taken and
    released; `reads` the rest."""

    def __init__(self) -> None:
        self.books: dict[tuple[str, int], Book] = {}
        self.known: dict[str, Circuit] = {}
        self.connections: dict[tuple[str, int], Probe] = {}
        """Who has which number, and until when."""
        self.updates: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()

    async def take_turns(self, site: str, ask: Ask, *, shard: int = 0) -> Sequence[Turn]:
        key = (site, shard)
        turns, self.books[key] = take_turns(self.books.get(key, Book()), ask)
        for kind in {"slots" if turn.is_slot else "places" for turn in turns}:
            self.updates[kind] += 1
        return turns

    async def forget_lines(self, site: str) -> bool:
        mine = {key: book for key, book in self.books.items() if key[0] == site and book.ends}
        self.books |= {key: replace(book, ends={}) for key, book in mine.items()}
        return bool(mine)

    async def circuit(self, site: str) -> Circuit:
        self.reads["circuit"] += 1
        return self.known.get(site, CLOSED)

    async def change_circuit(self, site: str, change: Change) -> Circuit:
        before = self.known.get(site, CLOSED)
        changed = change(before)
        if changed != before:
            self.updates["circuit"] += 1
            self.known[site] = changed
        return changed

    async def troubled(self) -> frozenset[str]:
        self.reads["troubled"] += 1
        return frozenset(await self.circuits())

    async def circuits(self) -> Mapping[str, Circuit]:
        return {site: circuit for site, circuit in sorted(self.known.items()) if not circuit.is_closed}

    async def take_connection(
        self, site: str, *, limit: int, owner: str, now: datetime, until: datetime
    ) -> int | None:
        for number in range(limit):
            held = self.connections.get((site, number))
            if held is None or held.until <= now or held.owner == owner:
                self.updates["take_connection"] += 1
                self.connections[site, number] = Probe(owner, until)
                return number
        return None

    async def release_connection(self, site: str, number: int, *, owner: str) -> None:
        held = self.connections.get((site, number))
        if held is not None and held.owner == owner:
            self.updates["release_connection"] += 1
            del self.connections[site, number]
