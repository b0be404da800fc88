"""Who does the work of a run: functions started by queues and by the minute; `streams.py` has the journal.

What Lambda and its event source mappings do is done here: batches, partial failures, cold starts, the timeout
that ends an invocation. What a function does is the stages' business alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from empath.domain.errors import EmpathError, LeaseLost, Trouble, UnreadableJob
from empath.pipeline.batch import work_through
from empath.pipeline.dead_letters import DeadLetters
from empath.pipeline.deliver import Delivery, Invocation
from empath.pipeline.dsn import Reporting
from empath.pipeline.gates import Gatekeeper
from empath.pipeline.resolve import Resolution
from empath.pipeline.retry import RetryClock
from empath.ports import QueueName, ReceivedJob
from empath.testing.metrics import CountedMetrics
from empath.testing.relay import work_on
from empath.testing.simulation.loop import DAY, MINUTE, SECOND
from empath.testing.simulation.process import MAX_OFFSET, SCOPE, Process, Scope
from empath.testing.simulation.queues import GARBAGE, key_of

if TYPE_CHECKING:
    from empath.testing.simulation.world import World

FUNCTIONS = {
    QueueName.ACCEPTED: "resolve",
    QueueName.DELIVERY: "deliver",
    QueueName.DELIVERY_HIGH: "deliver",
    QueueName.DELIVERY_BULK: "deliver",
    QueueName.DELIVERY_SLOW: "deliver",
    QueueName.RETRY: "deliver",
    QueueName.DSN: "dsn",
}
COLD_START = 3 * SECOND


class Workers:
    def __init__(self, world: World, ports: Any) -> None:
        self.world, self.ports = world, ports
        self.loop, self.draws, self.setup = world.loop, world.draws, world.plan.setup
        self.processes: list[Process] = []
        self.resolution = Resolution.over(ports)
        self.delivery = Delivery.over(SimpleNamespace(**vars(ports), gatekeeper=self._gatekeeper()))
        self.reporting = Reporting.over(ports)
        self.retry_clock = RetryClock.over(ports)
        self.dead_letters = DeadLetters.over(ports)
        self._running: Counter[QueueName] = Counter()
        self._waiting: set[QueueName] = set()
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._tick_at: int | None = None

    def _gatekeeper(self) -> Gatekeeper:
        # Of one process each; its counters are none of attempts.
        return Gatekeeper(self.ports.gates, self.ports.clock, self.ports.ids, CountedMetrics())

    # Processes.

    def start(self, kind: str, timeout: int | None, work: Coroutine[Any, Any, None], label: str) -> Process:
        """A fresh process that does `work`; with a timeout it is stopped then, unless it stood still."""
        number = self._next(kind)
        name = f"{kind}-{number}"
        # Fast, slow or right, from worker to worker: two of them are as far apart as is promised.
        offset = self.draws.choice(f"offset {kind} {number % 7}", (-MAX_OFFSET, 0, MAX_OFFSET))
        process = Process(name, self.loop, offset, began=self.loop.now)
        if timeout is not None:
            process.ends_at = self.loop.now + timeout * SECOND
            self.loop.at(process.ends_at, lambda: self._time_is_over(process))
        self.processes.append(process)
        token = SCOPE.set(Scope(process, label))
        process.tasks.append(self.loop.create_task(self._guarded(process, work)))
        SCOPE.reset(token)
        return process

    async def _guarded(self, process: Process, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the end of the run)
            self.world.invariants.broken("errors", f"{process.name}: {error!r}")

    def crash(self, process: Process) -> None:
        process.alive = False
        for callback in process.at_death:
            self.loop.after(SECOND, callback)

    def _time_is_over(self, process: Process) -> None:
        if not process.alive or process.tasks[0].done():
            return
        if process.was_paused:
            for callback in process.at_overtime:
                callback()
            return
        self.world.history.note(self.loop.now, process.name, "IS STOPPED at its timeout")
        self.crash(process)

    def _next(self, name: str) -> int:
        self._counts[name] = count = self._counts[name] + 1
        return count

    def draw(self, name: str) -> float:
        """A number in [0, 1), another one each time."""
        return self.draws.unit(f"{name} {self._next(name)}")

    # Queues.

    def visible(self, queue: QueueName, delay: int) -> None:
        """Jobs are to be there after `delay`; somebody polls a moment later."""
        moment = self.draws.below(f"poll {queue} {self._next(f'poll {queue}')}", 500_000)
        self.loop.after(delay + 1000 + moment, lambda: self._poll(queue))

    def _poll(self, name: QueueName) -> None:
        if self._running[name] >= self.setup.concurrency:
            self._waiting.add(name)
            return
        number = self._next(f"batch {name}")
        limit = 1 + self.draws.below(f"batch {name} {number}", self.setup.batch)
        jobs = self.world.queue.receive(name, limit)
        if self.world.queue.dead_jobs:
            self.expect_tick()
        if not jobs:
            return
        if len(jobs) == limit:
            self.visible(name, 0)
        self._running[name] += 1
        kind = FUNCTIONS[name]
        timeout = self.setup.deliver_timeout if kind == "deliver" else self.setup.timeout
        cold = self.draws.below(f"cold {name} {number}", COLD_START)
        self.loop.after(cold, lambda: self._begin(name, kind, timeout, jobs))

    def _begin(self, name: QueueName, kind: str, timeout: int, jobs: Sequence[ReceivedJob]) -> None:
        process = self.start(kind, timeout, self._batch(name, jobs), f"{name} batch")
        process.tasks[0].add_done_callback(lambda _: self._free(name, process))
        process.at_death.append(lambda: self._free(name, process))

    def _free(self, name: QueueName, process: Process) -> None:
        if process.slot_is_free:
            return
        process.slot_is_free = True
        self._running[name] -= 1
        if name in self._waiting:
            self._waiting.discard(name)
            self.visible(name, 0)

    async def _batch(self, name: QueueName, jobs: Sequence[ReceivedJob]) -> None:
        process = SCOPE.get().process
        invocation = Invocation.begun(process.remaining)
        stages = SimpleNamespace(
            resolution=self.resolution,
            delivery=replace(self.delivery, gatekeeper=self._gatekeeper()),
            reporting=self.reporting,
        )

        async def one(job: ReceivedJob) -> bool:
            key = key_of(name, job.body)
            label = self.world.label(key.message_id)
            if key.delivery:
                label += f"/{key.delivery.removeprefix('delivery#')}"
            SCOPE.set(
                Scope(process, label, visible_at=lambda: self.world.queue.visible_again_at(name, job.receipt))
            )
            try:
                return await work_on(stages, name, job, invocation)
            except (Trouble, UnreadableJob) as error:
                if isinstance(error, UnreadableJob) and job.body not in GARBAGE:
                    self.world.invariants.broken("errors", f"{label}: {error!r}")
                raise
            except LeaseLost:
                # Only who stood still can lose a lease that outlives every invocation.
                if not process.was_paused:
                    self.world.invariants.broken(
                        "leases", f"{label} lost its lease in the middle of its time"
                    )
                raise
            except EmpathError as error:
                self.world.invariants.broken("errors", f"{label}: {error!r}")
                raise

        received = ", ".join(f"{job.message_id} (try {job.receive_count})" for job in jobs)
        self.world.history.note(self.loop.now, process.name, f"begins with {received} from {name}")
        failed = set(await work_through(jobs, one, queue=self.ports.queue, name=name))
        for job in jobs:
            if job.message_id in failed:
                continue
            lost = self.world.faults.once("unacknowledged", f"{name} {key_of(name, job.body)}", self.loop.now)
            if lost is None:
                kindly = self.draws.chance(f"kindly {name} {job.message_id}", 0.5)
                self.world.queue.acknowledge(name, job, kindly=kindly)
        back = f", {len(failed)} come back" if failed else ""
        self.world.history.note(self.loop.now, process.name, f"ends, {len(jobs) - len(failed)} done{back}")

    # The clock function.

    def expect_tick(self) -> None:
        """Let the clock function run at the next full minute at which it would find something.

        Minutes at which it would read empty pages are left out: 7,200 of them in five days.
        """
        due = self.loop.now if self.world.queue.dead_jobs else self.world.listing.next_due()
        if due is None:
            return
        grid = self.setup.tick * MINUTE
        minute = (max(due, self.loop.now) // grid + 1) * grid
        if self._tick_at is None or minute < self._tick_at or self._tick_at <= self.loop.now:
            self._tick_at = minute
            self.loop.at(minute, lambda: self._tick(minute))

    def _tick(self, minute: int) -> None:
        if self._tick_at != minute:
            return
        self._tick_at = None
        name = f"tick at {minute // MINUTE % (DAY // MINUTE)}"
        if self.world.faults.once("missed", name, self.loop.now) is None:
            self.start("clock", self.setup.timeout, self._minute(), name)
        else:
            self.world.history.note(self.loop.now, "clock", "misses its minute")
        self.loop.after(1, self.expect_tick)

    async def _minute(self) -> None:
        process = SCOPE.get().process
        try:
            await self.retry_clock.tick(process.remaining)
            await self.dead_letters.sweep(process.remaining)
        except Trouble:
            return
        except EmpathError as error:
            self.world.invariants.broken("errors", f"the clock: {error!r}")
