"""The job queues of a run: SQS semantics out of `MemoryJobQueue`, and a count of every job that lives.

The count is what makes "nothing will ever wake this delivery" a cheap question.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from random import Random

from empath.domain.errors import QueueTrouble
from empath.ports import OutgoingJob, QueueName, ReceivedJob
from empath.ports.queue import MAX_DELAY
from empath.testing.clock import START
from empath.testing.memory_queue import MemoryJobQueue, _Entry
from empath.testing.simulation.loop import SECOND, SimulationLoop

GARBAGE = ('{"v": 2, "message_id": "from the future"}', "{", '{"v": 1}')


@dataclass(frozen=True, slots=True)
class JobKey:
    """What a job is about, as far as waking somebody goes."""

    kind: str
    """`accepted`, `delivery` (on any queue that is for deliveries), `dsn`, or `garbage`."""
    message_id: str = ""
    delivery: str = ""
    detail: str = ""
    """The attempt of a delivery job, the event of a report job."""


@lru_cache(maxsize=4096)
def key_of(queue: QueueName, body: str) -> JobKey:
    if body in GARBAGE:
        return JobKey("garbage")
    fields = json.loads(body)
    kind = QueueName.DELIVERY if queue.is_for_deliveries else queue
    detail = str(fields.get("attempt" if kind is QueueName.DELIVERY else "event", ""))
    return JobKey(kind.value, fields["message_id"], fields.get("delivery", ""), detail)


class TrueClock:
    """The time that the queues go by: no worker's clock."""

    def __init__(self, loop: SimulationLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return START + timedelta(microseconds=self._loop.now)

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError("nobody sleeps by the true clock")


class SimulatedQueue(MemoryJobQueue):
    """`living` counts jobs on live and dead-letter queues, in flight or not, by what they are about."""

    def __init__(
        self,
        loop: SimulationLoop,
        *,
        visibility: Mapping[QueueName, float],
        shuffle: Random,
        on_visible: Callable[[QueueName, int], None],
        on_removed: Callable[[JobKey], None],
        on_accepted: Callable[[str], None],
        on_illegal: Callable[[str], None],
    ) -> None:
        super().__init__(TrueClock(loop), visibility=visibility, shuffle=shuffle)
        self._loop = loop
        self._seconds = visibility
        self._on_visible = on_visible
        self._on_removed = on_removed
        self._on_accepted = on_accepted
        self._on_illegal = on_illegal
        self.living: Counter[JobKey] = Counter()
        self.about_delivery: Counter[tuple[str, str]] = Counter()
        """Delivery jobs by message and delivery, whatever their attempt."""
        self.dead_jobs = 0
        """Readable jobs on dead-letter queues."""

    async def send(self, queue: QueueName, jobs: Sequence[OutgoingJob]) -> None:
        for job in jobs:
            if not 0 <= job.delay <= MAX_DELAY:
                self._on_illegal(f"a job was sent to {queue} with a delay of {job.delay} s")
                raise QueueTrouble("delay out of range")
            if queue is QueueName.ACCEPTED:
                self._on_accepted(job.body)
            self._count(queue, job.body, 1)
            self._on_visible(queue, job.delay * SECOND)
        await super().send(queue, jobs)

    async def hide(self, queue: QueueName, receipt: str, seconds: int) -> None:
        await super().hide(queue, receipt, seconds)
        self._on_visible(queue, seconds * SECOND)

    def duplicate(self, queue: QueueName, body: str) -> None:
        super().duplicate(queue, body)
        self._count(queue, body, 1)
        self._on_visible(queue, 0)

    def receive(self, queue: QueueName, limit: int = 10) -> list[ReceivedJob]:
        jobs = super().receive(queue, limit)
        if jobs:
            self._on_visible(queue, int(self._seconds[queue] * SECOND))
        self.dead_jobs = sum(
            entry.body not in GARBAGE for held in self._dead.values() for entry in held.values()
        )
        return jobs

    def acknowledge(self, queue: QueueName, job: ReceivedJob, *, kindly: bool) -> None:
        """Delete a job that was done with. SQS may honour a receipt that is no longer the newest."""
        held = self._live[queue]
        entry = held.get(job.receipt.split("/", 1)[0])
        if kindly and entry is not None:
            del held[entry.message_id]
            self._count(queue, entry.body, -1)
        else:
            self.delete(queue, job.receipt)

    def visible_again_at(self, queue: QueueName, receipt: str) -> int | None:
        """When a job in flight shows again, in the loop's time; None when it is not in flight."""
        entry = self._in_flight(self._live[queue], receipt)
        return None if entry is None else (entry.visible_at - START) // timedelta(microseconds=1)

    @property
    def is_empty(self) -> bool:
        """Nothing but garbage lives."""
        return not self.living

    def _delete(self, held: dict[str, _Entry], receipt: str) -> None:
        entry = self._in_flight(held, receipt)
        super()._delete(held, receipt)
        if entry is None:
            return
        for name in QueueName:
            if held is self._dead[name]:
                self.dead_jobs -= entry.body not in GARBAGE
            if held is self._dead[name] or held is self._live[name]:
                self._count(name, entry.body, -1)

    def _count(self, queue: QueueName, body: str, change: int) -> None:
        key = key_of(queue, body)
        if key.kind == "garbage":
            return
        self.living[key] += change
        if key.kind == "delivery":
            self.about_delivery[key.message_id, key.delivery] += change
        if change < 0:
            if not self.living[key]:
                del self.living[key]
            self._on_removed(key)
