"""Operators of a run: they hold, release, try and delete deliveries while workers are at them.

Whoever hears of trouble tries again a minute later, as people do. Where the plan says so, somebody releases
all that is held once faults are over, so that it comes to its end like everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from empath.domain.delivery_state import State
from empath.domain.errors import Trouble
from empath.domain.records import DeliveryKey
from empath.pipeline.operating import Operations
from empath.testing.simulation.loop import MINUTE
from empath.testing.simulation.plan import OperationPlan
from empath.testing.simulation.process import SCOPE

if TYPE_CHECKING:
    from empath.testing.simulation.workers import Workers
    from empath.testing.simulation.world import World

TRIES = 3


class Operators:
    def __init__(self, world: World, workers: Workers, ports: Any) -> None:
        self._world, self._workers = world, workers
        self._operations = Operations.over(SimpleNamespace(**vars(ports), operator="ann"))
        self._waiting = 0

    @property
    def are_done(self) -> bool:
        return not self._waiting

    def begin(self) -> None:
        setup = self._world.plan.setup
        last = () if setup.released_at is None else (OperationPlan(0, setup.released_at, "release"),)
        known = {message.number for message in self._world.plan.messages}
        for plan in (*[one for one in setup.operations if one.message in known], *last):
            self._waiting += 1
            self._world.loop.at(plan.at, lambda plan=plan: self._start(plan))

    def _start(self, plan: OperationPlan) -> None:
        label = f"{plan.action} of {f'm{plan.message}' if plan.message else 'all'}"
        process = self._workers.start("operator", None, self._operate(plan), label)
        is_over = False

        def over() -> None:
            nonlocal is_over
            self._waiting -= not is_over
            is_over = True

        process.tasks[0].add_done_callback(lambda _: over())
        process.at_death.append(over)

    async def _operate(self, plan: OperationPlan) -> None:
        process = SCOPE.get().process
        for key in self._keys(plan):
            for _ in range(TRIES):
                try:
                    done = await self._operations.operate(
                        plan.action, key, report=plan.report, wait=plan.wait
                    )
                except Trouble:
                    await process.pause(MINUTE)
                    continue
                self._world.history.note(
                    self._world.loop.now, process.name, f"{plan.action} of {key}: {done.did}"
                )
                break

    def _keys(self, plan: OperationPlan) -> Sequence[DeliveryKey]:
        records = self._world.ledger.all_deliveries()
        if not plan.message:
            return [record.key for record in records if record.status is State.HELD]
        label = self._world.label
        return [
            record.key
            for record in records
            if label(record.message_id).partition(".")[0] == f"m{plan.message}"
        ]
