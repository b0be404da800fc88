"""A relay in memory with its reconciliation beside it, and ways to break what it keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from empath.domain.delivery_state import State
from empath.domain.errors import ControlTrouble, JournalTrouble, LedgerTrouble, QueueTrouble, SpoolTrouble
from empath.domain.outcome import Deferred, Failed
from empath.domain.records import DeliveryRecord
from empath.domain.reply import Reply
from empath.pipeline.discrepancies import Kind
from empath.pipeline.reconcile import Outcome, Reconciliation, Result
from empath.ports import QueueName
from empath.ports.lost_changes import LostChanges
from empath.testing.faults import Faults
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.memory_inventory import MemoryInventory
from empath.testing.memory_lost_changes import MemoryLostChanges
from empath.testing.relay import MemoryRelay

SENDER = "ann@a.test"
GOOD = "bob@good.test"
REJECTED = "bob@reject.test"
DEFERRED = "bob@defer.test"
HOUR = 3600.0
DAY = 24 * HOUR


@dataclass
class Reconciled:
    """`relay` and what reconciles it, with faults of its own."""

    relay: MemoryRelay
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        self.inventory = MemoryInventory(self.relay.spool, self.relay.ledger, page=3)
        self.replayed: list[LostChanges] = []
        self.lost_changes = MemoryLostChanges(self.journal)
        self.stage = Reconciliation.over(
            SimpleNamespace(
                inventory=self.faults.wrap("inventory", self.inventory, LedgerTrouble),
                spool=self.faults.wrap("spool", self.relay.spool, SpoolTrouble),
                queue=self.faults.wrap("queue", self.relay.queue, QueueTrouble),
                ledger=self.faults.wrap("ledger", self.relay.ledger, LedgerTrouble),
                clock=self.relay.clock,
                control=self.faults.wrap("control", self.relay.control, ControlTrouble),
                lost_changes=self.faults.wrap("lost_changes", self.lost_changes, JournalTrouble),
            )
        )

    async def journal(self, lost: LostChanges) -> None:
        self.replayed.append(lost)

    def lose_place(self, name: str, *, is_readable: bool = True) -> LostChanges:
        """Changes that the journal gave up on, as its failure destination has them."""
        lost = LostChanges(name, f"r-{name}", f"shard from {name}", 3, self.relay.clock.now(), is_readable)
        self.lost_changes.held[name] = lost
        return lost

    async def run(self, **settings: Any) -> list[Result]:
        results: list[Result] = []
        await self.stage.run(results.append, **settings)
        return results

    async def found(self, **settings: Any) -> list[tuple[Kind, str]]:
        """Kind and target of every finding, sorted."""
        return sorted((result.finding.kind, result.finding.target) for result in await self.run(**settings))

    async def repair(self, **settings: Any) -> list[tuple[Kind, Outcome]]:
        """Kind and outcome of every finding, sorted."""
        results = await self.run(repair=True, **settings)
        return sorted((result.finding.kind, result.outcome) for result in results)

    def later(self, seconds: float = 2 * HOUR) -> None:
        self.relay.clock.advance(seconds)

    async def record(self, message_id: str) -> DeliveryRecord:
        """The only delivery of a message."""
        (record,) = await self.relay.ledger.deliveries(message_id)
        return record

    async def is_clean(self) -> bool:
        """Whether mail, objects and bookkeeping have all come to their end."""
        ledger = self.relay.ledger
        return (
            not self.relay.spool.objects
            and all(message.forget_at is not None for message in ledger.messages())
            and all(record.is_settled for record in ledger.all_deliveries())
            and await self.found() == []
        )


def reconciled() -> tuple[Reconciled, ScriptedDialer]:
    """A relay whose next hops accept, refuse and, the first time, defer."""
    dialer = ScriptedDialer()
    dialer.host("reject.test").outcomes[REJECTED] = Failed(Reply.heard(550, "5.1.1 no"))
    dialer.host("defer.test").outcomes[DEFERRED] = [Deferred(Reply.heard(451, "4.7.1 later"))]
    return Reconciled(MemoryRelay(dialer=dialer)), dialer


async def chunks(content: bytes = b"Subject: x\r\n\r\nx\r\n") -> AsyncIterator[bytes]:
    yield content


def lose_jobs(relay: MemoryRelay, *names: QueueName) -> int:
    """Delete every job on these queues (none given: on all), as an operator's purge does."""
    lost = 0
    for name in names or tuple(QueueName):
        held = relay.queue._live[name]
        lost += len(held)
        held.clear()
    return lost


def lose_changes(relay: MemoryRelay) -> int:
    """Take the ledger's changes away from the journal, as a stream that gives up does."""
    return len(relay.ledger.take_stream_records())


def is_deferred(relay: MemoryRelay) -> bool:
    return any(record.status is State.DEFERRED for record in relay.ledger.all_deliveries())
