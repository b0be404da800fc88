"""Several workers of the deliver stage at a time, over a relay in memory; time moves when all of them wait.

Each worker is a process of its own, as Lambda's are: it takes a batch, works on it at the same time, and
knows of the others only what is in the stores.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from empath.pipeline.batch import work_through
from empath.pipeline.deliver import Delivery, Invocation
from empath.pipeline.jobs import DeliveryJob, decode
from empath.ports import QueueName, ReceivedJob
from empath.testing.clock import ManualClock
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

INVOCATION = 300.0
TURNS = 30
"""Of the event loop without a call of a port: more than anything takes that does not wait for time."""
POLL = 0.2
LANE = (QueueName.RETRY, QueueName.DELIVERY)


class TimedDialer(ScriptedDialer):
    """Remembers when which host was tried, and takes its time."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.takes: dict[str, float] = {}
        """Seconds of a connection to a host; none for those that are not in it."""
        self.tried: dict[str, list[datetime]] = {}
        self.most_open: Counter[str] = Counter()
        self._open: Counter[str] = Counter()

    async def connect(self, endpoint: Any, *, deadline: float) -> Any:
        host = endpoint.host
        self.tried.setdefault(host, []).append(self.clock.now())
        self._open[host] += 1
        self.most_open[host] = max(self.most_open[host], self._open[host])
        try:
            await self.clock.sleep(min(self.takes.get(host, 0), deadline))
            return await super().connect(endpoint, deadline=deadline)
        finally:
            self._open[host] -= 1


class Fleet:
    def __init__(
        self,
        relay: MemoryRelay,
        workers: int = 8,
        lanes: Sequence[Sequence[QueueName]] = (LANE,),
        polls: float = 60,
    ) -> None:
        """So many workers for each lane, which is the queues that they look into: at once when a job there
        becomes visible, and for what was not there before every `polls` seconds."""
        self.relay, self.clock = relay, relay.clock
        self.workers, self.lanes, self.polls = workers, lanes, polls
        self.received: Counter[str] = Counter()
        """How often each job's delivery was received."""

    async def run(self, until: Callable[[], bool], *, within: timedelta = timedelta(days=1)) -> None:
        """Work until something is so. Raises AssertionError when that takes longer than `within`."""
        end = self.clock.now() + within
        tasks = [asyncio.create_task(self._worker(lane)) for lane in self.lanes for _ in range(self.workers)]
        tasks.append(asyncio.create_task(self._minutes()))
        try:
            while not until():
                assert self.clock.now() <= end, f"not in {within}"
                await self._settle()
                for task in tasks:
                    if task.done():
                        task.result()
                wake = self.clock.next_wake
                assert wake is not None
                self.clock.advance_to(max(wake, self.clock.now()))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle(self) -> None:
        """Let everybody go on until all wait for time: nobody calls a port any more."""
        calls = -1
        while calls != len(self.relay.faults.calls):
            calls = len(self.relay.faults.calls)
            for _ in range(TURNS):
                await asyncio.sleep(0)

    async def _worker(self, lane: Sequence[QueueName]) -> None:
        has_slow_lane = any(QueueName.DELIVERY_SLOW in lane for lane in self.lanes)
        stage = replace(
            self.relay.delivery,
            gatekeeper=self.relay.gatekeeper(),
            slow_sites=self.relay.slow_sites() if has_slow_lane else None,
        )
        while True:
            batches = [(name, self.relay.queue.receive(name)) for name in lane]
            for name, jobs in batches:
                if jobs:
                    await self._invocation(stage, name, jobs)
            if not any(jobs for _, jobs in batches):
                await self.clock.sleep(self._idle(lane))

    def _idle(self, lane: Sequence[QueueName]) -> float:
        """Until there may be something again: as a long poll, it ends when something is there."""
        due = self.relay.queue.next_visible_at(*lane)
        wait = self.polls if due is None else (due - self.clock.now()).total_seconds()
        return min(max(wait, POLL), self.polls)

    async def _invocation(self, stage: Delivery, name: QueueName, jobs: list[ReceivedJob]) -> None:
        ends = self.clock.now() + timedelta(seconds=INVOCATION)
        invocation = Invocation.begun(lambda: (ends - self.clock.now()).total_seconds())

        async def one(received: ReceivedJob) -> bool:
            job = decode(DeliveryJob, received.body)
            self.received[job.message_id] += 1
            return await stage.deliver(job, queue=name, received=received, invocation=invocation)

        failed = await work_through(jobs, one, queue=self.relay.queue, name=name)
        for job in jobs:
            if job.message_id not in failed:
                self.relay.queue.delete(name, job.receipt)

    async def _minutes(self) -> None:
        while True:
            await self.clock.sleep(60)
            await self.relay.tick()
