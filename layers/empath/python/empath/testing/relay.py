"""The whole relay in memory: real stages over in-memory ports, moved by hand or until nothing is left to do.

    relay = MemoryRelay()
    message_id = await relay.submit("ann@a.test", ["bob@b.test"])
    await relay.run()
    assert relay.states(message_id) == {"bob@b.test": State.SENT}

A worker takes a batch from a queue as Lambda's event source mappings do: what it reports as done is
deleted, the rest comes back when its visibility timeout ends. A WorkerDied that a fault raises kills the
whole batch's worker at that line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Protocol

from empath.domain.address import parse_mailbox
from empath.domain.delivery_state import State
from empath.domain.envelope import Envelope, Recipient, Source
from empath.domain.errors import ControlTrouble, EmpathError, LedgerTrouble, QueueTrouble, SpoolTrouble
from empath.domain.records import DeliveryRecord
from empath.pipeline.accept import NOTHING, Acceptance, Additions
from empath.pipeline.batch import work_through
from empath.pipeline.dead_hosts import DeadHosts
from empath.pipeline.dead_letters import DeadLetters
from empath.pipeline.deliver import Delivery, Invocation
from empath.pipeline.dsn import Reporting
from empath.pipeline.gates import Gatekeeper
from empath.pipeline.jobs import AcceptedJob, DeliveryJob, DsnJob, decode
from empath.pipeline.journal import Journal
from empath.pipeline.resolve import Resolution
from empath.pipeline.retry import RetryClock
from empath.pipeline.slow_sites import SlowSites
from empath.ports import Dialer, QueueName, ReceivedJob, Resolver
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.faults import Faults, WorkerDied
from empath.testing.memory_control import MemoryControl
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.memory_gates import MemoryGates
from empath.testing.memory_ledger import MemoryLedger
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_quotas import MemoryQuotas
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.memory_routes import memory_routes
from empath.testing.memory_secrets import MemorySecrets
from empath.testing.memory_spool import MemorySpool
from empath.testing.memory_trials import MemoryTrials
from empath.testing.metrics import CountedMetrics
from empath.testing.zones import Node, Zones

HOSTNAME = "relay.test"
INVOCATION = 60.0
VISIBILITY = 90.0
TICK = timedelta(minutes=1)

INTERNET: Zones = {
    "nosuch.test": Node(fault="nxdomain"),
    "nullmx.test": Node(mx=[(0, "")]),
    "*": Node(a=["127.0.0.1"]),
}
"""Every domain is its own mail exchanger at a loopback address."""


class QueueStages(Protocol):
    """The stages that take jobs from queues."""

    @property
    def resolution(self) -> Resolution: ...

    @property
    def delivery(self) -> Delivery: ...

    @property
    def reporting(self) -> Reporting: ...


async def work_on(stages: QueueStages, name: QueueName, job: ReceivedJob, invocation: Invocation) -> bool:
    """What the door of a queue does with one of its jobs."""
    match name:
        case QueueName.ACCEPTED:
            await stages.resolution.resolve(decode(AcceptedJob, job.body))
        case _ if name.is_for_deliveries:
            return await stages.delivery.deliver(
                decode(DeliveryJob, job.body), queue=name, received=job, invocation=invocation
            )
        case QueueName.DSN:
            await stages.reporting.report(decode(DsnJob, job.body))
    return True


@dataclass
class MemoryRelay:
    """`faults` wraps spool, queue, ledger and control; the unwrapped ones are for looking."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(auto=True))
    ids: SequentialIds = field(default_factory=SequentialIds)
    faults: Faults = field(default_factory=Faults)
    dialer: Dialer = field(default_factory=ScriptedDialer)
    resolver: Resolver = field(default_factory=lambda: ZoneResolver(INTERNET))
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    metrics: CountedMetrics = field(default_factory=CountedMetrics)
    invocation: float = INVOCATION
    """Seconds that a worker has for a batch."""

    def __post_init__(self) -> None:
        self.spool = MemorySpool(clock=self.clock)
        self.queue = MemoryJobQueue(self.clock, visibility=VISIBILITY)
        self.control = MemoryControl({"*": {"allow_addresses": ["127.0.0.0/8"]}})
        self.quotas = MemoryQuotas()
        self.secrets = MemorySecrets()
        self.gates = MemoryGates()
        self.trials = MemoryTrials()
        self._next_tick = self.clock.now() + TICK
        ports = SimpleNamespace(
            spool=self.faults.wrap("spool", self.spool, SpoolTrouble),
            queue=self.faults.wrap("queue", self.queue, QueueTrouble),
            ledger=self.faults.wrap("ledger", self.ledger, LedgerTrouble),
            control=self.faults.wrap("control", self.control, ControlTrouble),
            quotas=self.faults.wrap("quotas", self.quotas, ControlTrouble),
            gatekeeper=self.gatekeeper(),
            resolver=self.resolver,
            clock=self.clock,
            ids=self.ids,
            metrics=self.metrics,
            hostname=HOSTNAME,
            routes=memory_routes(
                resolver=self.resolver,
                dialer=self.dialer,
                clock=self.clock,
                ids=self.ids,
                hostname=HOSTNAME,
                secrets=self.secrets,
                dead=DeadHosts(self.clock),
            ),
        )
        self._queue_port = ports.queue
        self.acceptance = Acceptance.over(ports)
        self.resolution = Resolution.over(ports)
        self.delivery = Delivery.over(ports)
        self.reporting = Reporting.over(ports)
        self.retry_clock = RetryClock.over(ports)
        self.dead_letters = DeadLetters.over(ports)
        self.journal = Journal.over(ports)
        self._unsettled: list[tuple[object, object]] = []

    def gatekeeper(self) -> Gatekeeper:
        """The gates as another process would know them: nothing yet."""
        gates = self.faults.wrap("gates", self.gates, ControlTrouble)
        return Gatekeeper(gates, self.clock, self.ids, self.metrics)

    def slow_sites(self) -> SlowSites:
        """What another process would know of how quickly sites take mail: nothing yet."""
        trials = self.faults.wrap("trials", self.trials, ControlTrouble)
        return SlowSites(trials, self.clock, self.metrics)

    async def submit(
        self,
        reverse_path: str | None,
        recipients: Sequence[str | Recipient],
        content: bytes = b"Subject: hello\r\n\r\nHello.\r\n",
        *,
        additions: Additions = NOTHING,
        **parameters: Any,
    ) -> str:
        """Hand in a message as the ingress would, with `parameters` of the envelope; its id.

        Raises what accept raises.
        """

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        message_id = self.ids.new_id()
        await self.acceptance.accept(
            message_id=message_id,
            received_at=self.clock.now(),
            envelope=Envelope(
                reverse_path=parse_mailbox(reverse_path) if reverse_path else None,
                recipients=tuple(
                    Recipient(mailbox=parse_mailbox(to)) if isinstance(to, str) else to for to in recipients
                ),
                **parameters,
            ),
            source=Source(client="127.0.0.1", helo="client.test"),
            content=chunks(),
            additions=lambda: additions,
        )
        return message_id

    async def work(self, name: QueueName) -> bool:
        """One batch from one queue; False when nothing was visible."""
        jobs = self.queue.receive(name)
        if not jobs:
            return False
        ends = self.clock.now() + timedelta(seconds=self.invocation)
        invocation = Invocation.begun(lambda: (ends - self.clock.now()).total_seconds())

        async def one(job: ReceivedJob) -> bool:
            return await work_on(self, name, job, invocation)

        try:
            failed = await work_through(jobs, one, queue=self._queue_port, name=name)
        except WorkerDied:
            return True
        for job in jobs:
            if job.message_id not in failed:
                self.queue.delete(name, job.receipt)
        return True

    async def follow_stream(self) -> None:
        """Give the journal every change of a delivery that it has not worked off, in order."""
        self._unsettled.extend(self.ledger.take_stream_records())
        while self._unsettled:
            old, new = self._unsettled[0]
            if isinstance(new, DeliveryRecord):
                try:
                    await self.journal.note(old if isinstance(old, DeliveryRecord) else None, new)
                except (EmpathError, WorkerDied):
                    return
            self._unsettled.pop(0)

    async def tick(self) -> None:
        """What the clock function does each minute."""
        remaining = _plenty
        try:
            await self.retry_clock.tick(remaining)
            await self.dead_letters.sweep(remaining)
        except (EmpathError, WorkerDied):
            return

    async def run(self, *, days: float = 10, until: Callable[[], bool] | None = None) -> None:
        """Work, and move the clock whenever nothing is to be done, until all is settled (or `until`).

        Raises AssertionError when `days` were not enough.
        """
        end = self.clock.now() + timedelta(days=days)
        while self.clock.now() <= end:
            if until is not None and until():
                return
            worked = [await self.work(name) for name in QueueName]
            await self.follow_stream()
            if any(worked):
                continue
            if until is None and self.is_idle:
                return
            await self._wait()
        raise AssertionError(f"not settled after {days} days: {self.ledger.all_deliveries()}")

    @property
    def is_idle(self) -> bool:
        """Nothing on a queue, nothing open in the ledger, nothing left for the journal."""
        return (
            not self._unsettled
            and not any(self.queue.pending(name) or self.queue.dead(name) for name in QueueName)
            and all(record.is_settled for record in self.ledger.all_deliveries())
        )

    async def _wait(self) -> None:
        next_job = self.queue.next_visible_at()
        if next_job is None or next_job > self._next_tick:
            self.clock.advance_to(max(self._next_tick, self.clock.now()))
            self._next_tick = self.clock.now() + TICK
            await self.tick()
        else:
            self.clock.advance_to(max(next_job, self.clock.now()))

    def states(self, message_id: str) -> dict[str, State]:
        """The state of every recipient of a message."""
        return {
            address: known.state
            for record in self.ledger.all_deliveries()
            if record.message_id == message_id
            for address, known in record.recipients.items()
        }

    def reports_of(self, message_id: str) -> list[str]:
        """The ids of the reports about a message that were handed in."""
        return [
            message.message_id
            for message in self.ledger.messages()
            if (message.source.report_of or "").startswith(f"{message_id}/")
        ]


def _plenty() -> float:
    return 60.0
