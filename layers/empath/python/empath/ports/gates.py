"""What all workers agree on about a site: its next free slot, its circuit, the connections to it.

A site is named as `pipeline.routing` names it. Nothing here waits, and nothing here decides: the rules are in
`domain.line` and `domain.circuit`. Every method raises ControlTrouble when the store does not answer, or
when so many change the same thing at once that it could not be done in a bounded number of tries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from empath.domain.circuit import Circuit
from empath.domain.line import Ask, Turn

Change = Callable[[Circuit], Circuit]


class Gates(Protocol):
    async def take_turns(self, site: str, ask: Ask, *, shard: int = 0) -> Sequence[Turn]:
        """A turn of a shard of the site for each who asks, as `domain.line` has it: slots, then places,
        earliest first. They are taken with the answer, and lost with an answer that is lost. One update for
        the slots and one for the places, in most cases the only calls."""

    async def forget_lines(self, site: str) -> bool:
        """Let the site's lines end now, in all of its shards; whether anybody stood there. Those who did keep
        their places: who comes new does not stand behind them."""

    async def circuit(self, site: str) -> Circuit:
        """As it is now; closed when nobody has heard of the site."""

    async def change_circuit(self, site: str, change: Change) -> Circuit:
        """Replace the circuit by what `change` makes of it, and return that; nobody's change is lost.

        `change` may be called several times, and is called once more when a written answer was lost; what
        it returns unchanged is not written.
        """

    async def troubled(self) -> frozenset[str]:
        """The sites whose circuit is not closed. A closed one may be among them for a while."""

    async def circuits(self) -> Mapping[str, Circuit]:
        """The circuits that are not closed, by site: for operators."""

    async def take_connection(
        self, site: str, *, limit: int, owner: str, now: datetime, until: datetime
    ) -> int | None:
        """One of the numbers 0 to `limit` - 1, ours until `until`; None when all are taken."""

    async def release_connection(self, site: str, number: int, *, owner: str) -> None:
        """Give a number back; nothing when it is no longer ours."""
