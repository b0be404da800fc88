"""Job queues in memory, with the semantics of SQS standard queues.

1. A job is visible after its delay. A receipt hides it for the visibility timeout; if nobody deletes it, it
   comes back, with a new receipt and a higher receive count.
2. What was received `max_receive_count` times goes to the dead-letter queue instead of to the next receiver.
3. A receipt is good only while it is the job's newest and the job is in flight: with any other one `delete`
   does nothing and `hide` fails. (SQS may be kinder, but promises no more.)
4. A body of more than 1 MiB, a delay beyond 15 minutes, hiding for more than 12 hours, or a group with a
   space, a control or more than 128 characters is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from empath.domain.errors import QueueTrouble
from empath.ports.clock import Clock
from empath.ports.queue import MAX_DELAY, OutgoingJob, QueueName, ReceivedJob, is_group

MAX_BODY = 1_048_576
MAX_VISIBILITY = 43_200
MAX_RECEIVED = 10


@dataclass(slots=True)
class _Entry:
    body: str
    message_id: str
    trace_header: str | None
    visible_at: datetime
    group: str | None = None
    receive_count: int = 0
    receipt: str | None = None


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """What a queue holds, as a test sees it."""

    body: str
    message_id: str
    visible_at: datetime
    """When it can be received (in the past: now)."""
    receive_count: int
    group: str | None = None


class MemoryJobQueue:
    """All queues with their dead-letter queues.

    `visibility` in seconds, for all queues or by name (default 60), `dead_visibility` for all dead-letter
    queues (30, the default of SQS). With `shuffle`, jobs are received in an order drawn from it; without, in
    the order in which they became visible.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        visibility: float | Mapping[QueueName, float] = 60,
        dead_visibility: float = 30,
        max_receive_count: int = 5,
        shuffle: Random | None = None,
    ) -> None:
        self._clock = clock
        by_name = visibility if isinstance(visibility, Mapping) else {}
        default = 60.0 if isinstance(visibility, Mapping) else visibility
        self._visibility = {name: timedelta(seconds=by_name.get(name, default)) for name in QueueName}
        self._dead_visibility = timedelta(seconds=dead_visibility)
        self._max_receive_count = max_receive_count
        self._shuffle = shuffle
        self._live: dict[QueueName, dict[str, _Entry]] = {name: {} for name in QueueName}
        self._dead: dict[QueueName, dict[str, _Entry]] = {name: {} for name in QueueName}
        self._numbers = itertools.count(1)

    # The port.

    async def send(self, queue: QueueName, jobs: Sequence[OutgoingJob]) -> None:
        refused = 0
        for job in jobs:
            if (
                not 0 <= job.delay <= MAX_DELAY
                or not 0 < len(job.body.encode()) <= MAX_BODY
                or (job.group is not None and not is_group(job.group))
            ):
                refused += 1
                continue
            entry = _Entry(
                body=job.body,
                message_id=f"job-{next(self._numbers)}",
                trace_header=job.trace_header,
                visible_at=self._clock.now() + timedelta(seconds=job.delay),
                group=job.group,
            )
            self._live[queue][entry.message_id] = entry
        if refused:
            raise QueueTrouble(f"{refused} of {len(jobs)} jobs were refused by queue {queue}")

    async def hide(self, queue: QueueName, receipt: str, seconds: int) -> None:
        entry = self._in_flight(self._live[queue], receipt)
        if entry is None or not 0 <= seconds <= MAX_VISIBILITY:
            raise QueueTrouble(f"the job is not in flight under this receipt, or {seconds} s is out of range")
        entry.visible_at = self._clock.now() + timedelta(seconds=seconds)

    async def receive_dead(self, queue: QueueName, limit: int = 10) -> list[ReceivedJob]:
        return self._receive(self._dead[queue], self._dead_visibility, limit)

    async def delete_dead(self, queue: QueueName, receipt: str) -> None:
        self._delete(self._dead[queue], receipt)

    # What Lambda's event source mapping does in production, and what tests look at.

    def receive(self, queue: QueueName, limit: int = MAX_RECEIVED) -> list[ReceivedJob]:
        """Up to `limit` visible jobs, hidden from now on; spent ones move to the dead-letter queue."""
        now = self._clock.now()
        for entry in list(self._live[queue].values()):
            if entry.visible_at <= now and entry.receive_count >= self._max_receive_count:
                del self._live[queue][entry.message_id]
                entry.receipt = None
                self._dead[queue][entry.message_id] = entry
        return self._receive(self._live[queue], self._visibility[queue], limit)

    def delete(self, queue: QueueName, receipt: str) -> None:
        """Acknowledge a received job."""
        self._delete(self._live[queue], receipt)

    def pending(self, queue: QueueName) -> list[QueuedJob]:
        """Every job on a queue: visible, delayed or in flight."""
        return _snapshot(self._live[queue])

    def dead(self, queue: QueueName) -> list[QueuedJob]:
        """Every job on the dead-letter queue of `queue`."""
        return _snapshot(self._dead[queue])

    def duplicate(self, queue: QueueName, body: str) -> None:
        """Deliver a job once more than it was sent, as SQS now and then does."""
        entry = _Entry(body, f"job-{next(self._numbers)}", None, self._clock.now())
        self._live[queue][entry.message_id] = entry

    def next_visible_at(self, *queues: QueueName) -> datetime | None:
        """When the first job of these queues (none given: of all) is there to be received."""
        return min(
            (entry.visible_at for name in queues or tuple(QueueName) for entry in self._live[name].values()),
            default=None,
        )

    def _receive(self, held: dict[str, _Entry], visibility: timedelta, limit: int) -> list[ReceivedJob]:
        now = self._clock.now()
        visible = sorted(
            (entry for entry in held.values() if entry.visible_at <= now), key=lambda entry: entry.visible_at
        )
        if self._shuffle is not None:
            self._shuffle.shuffle(visible)
        received = []
        for entry in visible[: min(limit, MAX_RECEIVED)]:
            entry.receive_count += 1
            entry.receipt = f"{entry.message_id}/{next(self._numbers)}"
            entry.visible_at = now + visibility
            received.append(
                ReceivedJob(
                    entry.body,
                    entry.receipt,
                    entry.receive_count,
                    entry.message_id,
                    entry.trace_header,
                    entry.group,
                )
            )
        return received

    def _in_flight(self, held: dict[str, _Entry], receipt: str) -> _Entry | None:
        entry = held.get(receipt.split("/", 1)[0])
        if entry is None or entry.receipt != receipt or entry.visible_at <= self._clock.now():
            return None
        return entry

    def _delete(self, held: dict[str, _Entry], receipt: str) -> None:
        entry = self._in_flight(held, receipt)
        if entry is not None:
            del held[entry.message_id]


def _snapshot(held: dict[str, _Entry]) -> list[QueuedJob]:
    return [QueuedJob(e.body, e.message_id, e.visible_at, e.receive_count, e.group) for e in held.values()]
