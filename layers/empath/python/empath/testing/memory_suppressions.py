"""The suppression list in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime

from empath.domain.suppression import Suppression, listed_as


class MemorySuppressions:
    """`entries` is open for a test, by `listed_as`."""

    def __init__(self) -> None:
        self.entries: dict[str, Suppression] = {}

    async def find(self, addresses: Iterable[str], *, now: datetime) -> Mapping[str, Suppression]:
        known = {address: self.entries.get(listed_as(address)) for address in addresses}
        return {
            address: entry for address, entry in known.items() if entry is not None and entry.is_in_force(now)
        }

    async def add(self, entry: Suppression) -> bool:
        known = self.entries.get(entry.address)
        if known is not None and _lasts(known, entry):
            return False
        self.entries[entry.address] = entry
        return True

    async def remove(self, address: str) -> bool:
        return self.entries.pop(listed_as(address), None) is not None

    async def all(self) -> AsyncIterator[Suppression]:
        for entry in list(self.entries.values()):
            yield entry


def _lasts(known: Suppression, entry: Suppression) -> bool:
    """Whether `known` lasts as long as `entry`."""
    if known.until is None:
        return True
    return entry.until is not None and entry.until <= known.until
