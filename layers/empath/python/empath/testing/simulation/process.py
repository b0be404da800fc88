"""Workers as the simulation sees them: processes that pause, die, and see a clock of their own.

Death is silence: nothing of a dead process runs again, no `finally` and no `except`, as when a machine is
gone. A pause stops every task of a process at once and lets them go on later, as if nothing had been; that
is how a worker outlives its lease.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from empath.testing.clock import START
from empath.testing.simulation.draws import Draws
from empath.testing.simulation.loop import SECOND, SimulationLoop

MAX_OFFSET = 5 * SECOND
"""Clocks run up to this much fast or slow, so that two of them differ by the leases' margin at most."""


@dataclass(slots=True, eq=False)
class Process:
    """One invocation of a function, or one SMTP session of the ingress."""

    name: str
    loop: SimulationLoop
    offset: int = 0
    """Microseconds that its clock is ahead."""
    alive: bool = True
    frozen_until: int = 0
    began: int = 0
    was_paused: bool = False
    """It may outlive its time: whoever stops a worker at its timeout stood still as well."""
    ends_at: int = 0
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    at_death: list[Callable[[], None]] = field(default_factory=list)
    """Called a moment after it died, by whoever started it."""
    at_overtime: list[Callable[[], None]] = field(default_factory=list)
    """Called when its time is over and it stands still; it may go on later."""
    is_done: bool = False
    """Its work came to a good end."""
    slot_is_free: bool = False
    """Another worker may run in its place."""

    def remaining(self) -> float:
        """Seconds that the invocation has left."""
        return (self.ends_at - self.loop.now) / SECOND

    def wall(self) -> datetime:
        """What its clock shows."""
        return START + timedelta(microseconds=self.loop.now + self.offset)

    def freeze(self, duration: int) -> None:
        self.was_paused = True
        self.frozen_until = max(self.frozen_until, self.loop.now + duration)

    async def pause(self, duration: int) -> None:
        """Let virtual time pass for this task; it goes on only when its process runs."""
        future: asyncio.Future[None] = self.loop.create_future()
        self.loop.after(duration, lambda: self._wake(future))
        await future

    def _wake(self, future: asyncio.Future[None]) -> None:
        if not self.alive:
            return
        if self.frozen_until > self.loop.now:
            self.loop.at(self.frozen_until, lambda: self._wake(future))
        elif not future.done():
            future.set_result(None)


async def never(process: Process) -> None:
    """Where the task that meets its process's death stays."""
    await process.loop.create_future()


@dataclass(slots=True, eq=False)
class Scope:
    """On whose behalf code runs: a process, and within it one job."""

    process: Process
    label: str
    """Names the job in histories and draws; the same in a shrunk run."""
    owner: str | None = None
    """The claim that the job's worker holds, or held."""
    visible_at: Callable[[], int | None] | None = None
    """When the job shows again unless it is done with."""


SCOPE: ContextVar[Scope] = ContextVar("empath simulation scope")


def runs_at(context: Context) -> int | None:
    """When the process that a context belongs to goes on: never, once it is dead."""
    scope = context.get(SCOPE)
    if scope is None:
        return 0
    return scope.process.frozen_until if scope.process.alive else None


class WorkerClock:
    """What the running worker's own clock shows."""

    def now(self) -> datetime:
        return SCOPE.get().process.wall()

    async def sleep(self, seconds: float) -> None:
        await SCOPE.get().process.pause(int(max(seconds, 0) * SECOND))


class WorkerIds:
    """Ids that name the worker they were made in, and randomness by the name of the job."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._made: defaultdict[str, int] = defaultdict(int)

    def new_id(self) -> str:
        name = SCOPE.get().process.name
        self._made[name] = number = self._made[name] + 1
        return f"{name}.{number}"

    def random(self) -> float:
        label = SCOPE.get().label
        self._made[label] = number = self._made[label] + 1
        return self._draws.unit(f"{label} random {number}")
