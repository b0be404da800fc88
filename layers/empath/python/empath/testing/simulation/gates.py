"""The store of the gates as simulated workers reach it: late, not at all, or without an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from empath.domain.circuit import Circuit
from empath.domain.errors import ControlTrouble
from empath.domain.line import Ask, Turn
from empath.ports.gates import Change, Gates
from empath.testing.simulation.ports import Effect, Gate, T


class GatedGates:
    def __init__(self, gate: Gate, gates: Gates) -> None:
        self._gate, self._gates = gate, gates

    async def _call(self, name: str, effect: Effect[T], about: object) -> T:
        return await self._gate.call(f"gates.{name}", effect, trouble=ControlTrouble, about=about)

    async def take_turns(self, site: str, ask: Ask, *, shard: int = 0) -> Sequence[Turn]:
        return await self._call("take_turns", lambda: self._gates.take_turns(site, ask, shard=shard), site)

    async def forget_lines(self, site: str) -> bool:
        return await self._call("forget_lines", lambda: self._gates.forget_lines(site), site)

    async def circuit(self, site: str) -> Circuit:
        return await self._call("circuit", lambda: self._gates.circuit(site), site)

    async def change_circuit(self, site: str, change: Change) -> Circuit:
        return await self._call("change_circuit", lambda: self._gates.change_circuit(site, change), site)

    async def troubled(self) -> frozenset[str]:
        return await self._call("troubled", self._gates.troubled, "")

    async def circuits(self) -> Mapping[str, Circuit]:
        return await self._call("circuits", self._gates.circuits, "")

    async def take_connection(
        self, site: str, *, limit: int, owner: str, now: datetime, until: datetime
    ) -> int | None:
        return await self._call(
            "take_connection",
            lambda: self._gates.take_connection(site, limit=limit, owner=owner, now=now, until=until),
            site,
        )

    async def release_connection(self, site: str, number: int, *, owner: str) -> None:
        await self._call(
            "release_connection",
            lambda: self._gates.release_connection(site, number, owner=owner),
            site,
        )
