"""A relay in memory whose journal tells the whole story, under faults and redeliveries drawn from a seed.

Every moment between two steps is one at which the books must balance; `Books` keeps them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import Any

from empath.domain.delivery_state import State
from empath.domain.errors import AuditTrouble, ControlTrouble, EmpathError, EventsTrouble, Trouble
from empath.domain.lifecycle import DEFAULT_TYPES
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.pipeline.changes import StreamChange
from empath.pipeline.chronicle import Chronicle
from empath.pipeline.jobs import AcceptedJob, decode
from empath.ports import QueueName
from empath.testing.faults import AFTER, BEFORE, Faults, When, WorkerDied
from empath.testing.memory_audit import MemoryAudit, MemoryEvents
from empath.testing.memory_suppressions import MemorySuppressions
from empath.testing.relay import MemoryRelay

STREAM_BATCH = 100


@dataclass
class DrawnFaults(Faults):
    """A port call in so many fails, or its worker dies at it, before or after it took effect."""

    draws: Random = field(default_factory=lambda: Random(0))
    rate: float = 0.0
    happened: int = 0

    def matched(
        self, call: str, trouble: type[Trouble], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[When, BaseException] | None:
        if self.draws.random() >= self.rate:
            return None
        self.happened += 1
        error = WorkerDied() if self.draws.random() < 0.3 else trouble(f"drawn at {call}")
        return self.draws.choice((BEFORE, AFTER)), error


@dataclass
class StoryRelay(MemoryRelay):
    """The journal takes batches as a stream gives them: again after a failure, in halves, and now and then
    again from the middle."""

    draws: Random = field(default_factory=lambda: Random(0))
    redelivered: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.audit, self.events, self.list = MemoryAudit(), MemoryEvents(), MemorySuppressions()
        suppressions = self.faults.wrap("suppressions", self.list, ControlTrouble)
        self.resolution = replace(self.resolution, suppressions=suppressions)
        self.dead_letters = replace(self.dead_letters, resolution=self.resolution)
        self.chronicle = Chronicle(
            spool=self.resolution.spool,
            ledger=self.resolution.ledger,
            clock=self.clock,
            audit=self.faults.wrap("audit", self.audit, AuditTrouble),
            events=self.faults.wrap("events", self.events, EventsTrouble),
            event_types=DEFAULT_TYPES,
            control=self.resolution.control,
            suppressions=suppressions,
        )
        self.books = Books(self)
        self._stream: list[StreamChange] = []
        self._changes = 0

    async def work(self, name: QueueName) -> bool:
        waiting = self.draws.random() < self.redelivered and self.queue.pending(name)
        if waiting:
            self.queue.duplicate(name, self.draws.choice(waiting).body)
        worked = await super().work(name)
        self._take_changes()
        return worked

    def _take_changes(self) -> None:
        at = self.clock.now().replace(microsecond=0)
        for old, new in self.ledger.take_stream_records():
            self._changes += 1
            self._stream.append(StreamChange(f"c{self._changes}", at, old, new))
            self.books.changed(new)

    async def follow_stream(self) -> None:
        self._take_changes()
        size = STREAM_BATCH
        while self._stream:
            batch = self._stream[:size]
            try:
                await self.chronicle.take(batch)
            except (EmpathError, WorkerDied):
                size = max(1, len(batch) // 2)
                continue
            again = self.draws.random() < self.redelivered
            del self._stream[: len(batch) // 2 if again else len(batch)]
            size = STREAM_BATCH
            self._take_changes()

    @property
    def is_idle(self) -> bool:
        return not self._stream and super().is_idle

    async def work_off(self, arrive: Callable[[], Awaitable[bool]]) -> None:
        """Let some mail `arrive`, until it says that this was all, and work until all is settled; the books
        are looked at after every step."""
        is_open = True
        while True:
            if is_open:
                is_open = await arrive()
            worked = False
            for name in QueueName:
                if await self.work(name):
                    worked = True
                    self.books.balance()
            await self.follow_stream()
            self.books.balance()
            if worked or is_open:
                continue
            if self.is_idle:
                return
            await self._wait()
            self._take_changes()
            self.books.balance()


@lru_cache(maxsize=10_000)
def _about(body: str) -> tuple[str, str | None]:
    """Message, and what it reports, of an accepted job."""
    job = decode(AcceptedJob, body)
    return job.message_id, job.source.report_of


class Books:
    """accepted = sent + reported + open, recipient by recipient."""

    def __init__(self, relay: StoryRelay) -> None:
        self._relay = relay
        self.accepted: dict[str, tuple[str, ...]] = {}
        """Recipients by message, for every message whose client heard 250."""
        self._where: dict[tuple[str, str], str] = {}
        """What became of whom, for recipients that the ledger knows."""
        self._to_come: dict[str, int] = {}
        """Accepted messages that the ledger does not know, and how many recipients they have."""
        self._count = {"accepted": 0, "sent": 0, "reported": 0, "open": 0}
        self.reports: set[str] = set()
        """What the reports that the ledger knows are about."""
        self.moments = 0

    def accept(self, message_id: str, recipients: tuple[str, ...]) -> None:
        """A client heard 250."""
        self.accepted[message_id] = recipients
        self._count["accepted"] += len(recipients)
        self._to_come[message_id] = len(recipients)

    def changed(self, new: object) -> None:
        """The ledger changed."""
        if isinstance(new, MessageRecord) and new.source.report_of is not None:
            self.reports.add(new.source.report_of)
        if not isinstance(new, DeliveryRecord) or new.message_id not in self.accepted:
            return
        for address, known in new.recipients.items():
            key = (new.message_id, address)
            where = "open"
            if known.state is State.SENT:
                where = "sent"
            elif known.state in (State.FAILED, State.EXPIRED):
                event = f"failed-{known.attempt}"
                if new.reports.get(event) == "sent":
                    where = "reported"
                    assert self._is_handed_in(f"{new.key}/{event}"), f"nobody has the report about {key}"
            before = self._where.get(key)
            if before is None:
                self._to_come[new.message_id] -= 1
                if not self._to_come[new.message_id]:
                    del self._to_come[new.message_id]
            else:
                self._count[before] -= 1
            self._where[key] = where
            self._count[where] += 1

    def _is_handed_in(self, event: str) -> bool:
        return event in self.reports or any(report_of == event for _, report_of in self._accepted_jobs())

    def _accepted_jobs(self) -> Iterator[tuple[str, str | None]]:
        """What the jobs on the queue, dead letters included, are about."""
        queue = self._relay.queue
        for jobs in (queue.pending(QueueName.ACCEPTED), queue.dead(QueueName.ACCEPTED)):
            yield from (_about(job.body) for job in jobs)

    def balance(self) -> None:
        """Look at them. Raises AssertionError when somebody is missing, or is counted twice."""
        self.moments += 1
        count = self._count
        on_queue = self._waiting_to_be_resolved() if self._to_come else 0
        found = count["sent"] + count["reported"] + count["open"] + on_queue
        assert count["accepted"] == found, f"accepted is not sent + reported + open: {count}, {on_queue}"

    def _waiting_to_be_resolved(self) -> int:
        """Recipients that the ledger does not know, of messages that are in the spool and on a queue."""
        spool = self._relay.spool
        on_queue = {message_id for message_id, _ in self._accepted_jobs()}
        return sum(
            missing
            for message_id, missing in self._to_come.items()
            if message_id in on_queue and f"messages/{message_id}" in spool.objects
        )

    def recount(self) -> dict[str, int]:
        """The same out of the ledger as it is now, for a look from another side."""
        found = {"sent": 0, "reported": 0, "open": 0}
        for record in self._relay.ledger.all_deliveries():
            if record.message_id not in self.accepted:
                continue
            for known in record.recipients.values():
                is_over = known.state in (State.FAILED, State.EXPIRED)
                is_told = record.reports.get(f"failed-{known.attempt}") == "sent"
                found[
                    "sent" if known.state is State.SENT else "reported" if is_over and is_told else "open"
                ] += 1
        return found
