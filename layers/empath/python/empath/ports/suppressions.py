"""The list of addresses that mail is not tried for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Protocol

from empath.domain.suppression import Suppression


class Suppressions(Protocol):
    """Addresses are compared as `listed_as` writes them. Every method raises ControlTrouble."""

    async def find(self, addresses: Iterable[str], *, now: datetime) -> Mapping[str, Suppression]:
        """The entries in force, by the addresses as given; one request for each hundred addresses."""

    async def add(self, entry: Suppression) -> bool:
        """Put an entry on the list; False, and nothing is written, where one lasts as long or longer."""

    async def remove(self, address: str) -> bool:
        """Take an address off the list; False when it was not on it."""

    def all(self) -> AsyncIterator[Suppression]:
        """Every entry, those that are over too until the store forgets them; in no order."""
