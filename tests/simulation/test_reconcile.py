"""Repairs in the middle of simulated runs: workers, faults and repairs come between each other at any call,
and every invariant of the relay holds."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, ClassVar, cast

import pytest

from empath.domain.errors import Trouble
from empath.pipeline.discrepancies import Kind
from empath.pipeline.reconcile import Outcome, Reconciliation, Result
from empath.ports.inventory import Inventory
from empath.testing.memory_inventory import MemoryInventory
from empath.testing.simulation import plan_of, run
from empath.testing.simulation import world as worlds
from empath.testing.simulation.loop import MINUTE, SECOND
from empath.testing.simulation.process import SCOPE

SEEDS = 24
BATCHES = 3
REPAIRS = 60
EVERY = 4 * MINUTE
PATIENCE = timedelta(seconds=20)
"""So little that what is only on its way counts as lost."""


class SlowInventory:
    """An inventory each of whose answers takes a while, in which everybody else goes on."""

    def __init__(self, inventory: MemoryInventory) -> None:
        self._inventory = inventory

    def __getattr__(self, name: str) -> Callable[..., Any]:
        target = getattr(self._inventory, name)

        async def pages(*args: Any) -> AsyncIterator[Any]:
            async for page in target(*args):
                await SCOPE.get().process.pause(SECOND // 5)
                yield page

        async def answer(*args: Any) -> Any:
            await SCOPE.get().process.pause(SECOND // 20)
            found = await target(*args)
            await SCOPE.get().process.pause(SECOND // 20)
            return found

        return pages if name in ("objects", "uploads", "unclosed") else answer


class RepairedWorld(worlds.World):
    results: ClassVar[Counter[tuple[Kind, Outcome]]] = Counter()

    def run(self) -> worlds.Result:
        for number in range(1, REPAIRS + 1):
            self.loop.at(number * EVERY, lambda number=number: self._begin(number))
        return super().run()

    def _begin(self, number: int) -> None:
        if not self.loop.is_closed():
            self.workers.start("repair", None, self._repair(), f"repair {number}")

    async def _repair(self) -> None:
        stage = Reconciliation(
            inventory=cast(Inventory, SlowInventory(MemoryInventory(self.spool, self.ledger, page=2))),
            spool=self.ports.spool,
            queue=self.ports.queue,
            ledger=self.ports.ledger,
            clock=self.ports.clock,
            control=self.ports.control,
        )

        def note(result: Result) -> None:
            self.results[result.finding.kind, result.outcome] += 1

        try:
            await stage.run(note, repair=True, patience=PATIENCE)
        except Trouble:
            return


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_invariant_holds_whatever_is_repaired_meanwhile(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "World", RepairedWorld)
    monkeypatch.setattr(RepairedWorld, "results", Counter())
    size = SEEDS // BATCHES
    for seed in range(batch * size, (batch + 1) * size):
        result = run(plan_of(seed))
        assert not result.violations, f"seed {seed}: {result.violations[0]}"
    repaired = {kind for kind, outcome in RepairedWorld.results if outcome is Outcome.REPAIRED}
    assert Kind.LOST_JOB in repaired, "repairs had something to do"
    gc.collect()
