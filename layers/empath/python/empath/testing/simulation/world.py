"""A run: the relay's stages over simulated ports, the clients that hand mail in, and the end of it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from types import CoroutineType, SimpleNamespace

from empath.domain.address import parse_mailbox
from empath.domain.envelope import Envelope, Priority, Recipient, Source
from empath.domain.errors import Trouble
from empath.domain.records import DeliveryRecord
from empath.domain.route import FINAL
from empath.domain.suppression import Suppression
from empath.pipeline.accept import Acceptance, Additions
from empath.pipeline.jobs import AcceptedJob, decode
from empath.testing.clock import START
from empath.testing.memory_audit import MemoryAudit
from empath.testing.memory_control import MemoryControl
from empath.testing.memory_gates import MemoryGates
from empath.testing.memory_ledger import MemoryLedger
from empath.testing.memory_quotas import MemoryQuotas
from empath.testing.memory_routes import memory_routes
from empath.testing.memory_spool import MemorySpool
from empath.testing.memory_suppressions import MemorySuppressions
from empath.testing.metrics import CountedMetrics
from empath.testing.simulation.doubts import Doubts
from empath.testing.simulation.draws import Draws, Shuffler
from empath.testing.simulation.faults import Fault, Faults
from empath.testing.simulation.gated_control import GatedControl, GatedQuotas
from empath.testing.simulation.gated_ledger import GatedLedger
from empath.testing.simulation.gated_story import GatedAudit, GatedEvents, GatedSuppressions
from empath.testing.simulation.gates import GatedGates
from empath.testing.simulation.history import History
from empath.testing.simulation.hops import Hops, SimulatedRoutes, TroubledResolver
from empath.testing.simulation.invariants import Accepted, Invariants, Violation
from empath.testing.simulation.listing import LaggingListing
from empath.testing.simulation.loop import DAY, MINUTE, SECOND, SimulationLoop
from empath.testing.simulation.operators import Operators
from empath.testing.simulation.plan import OPTED_OUT, MessagePlan, Plan, Setup
from empath.testing.simulation.ports import Gate, GatedQueue, GatedResolver, GatedSpool
from empath.testing.simulation.process import SCOPE, WorkerClock, WorkerIds, runs_at
from empath.testing.simulation.queues import GARBAGE, SimulatedQueue
from empath.testing.simulation.reporting import Asked, Reporting
from empath.testing.simulation.story import Story
from empath.testing.simulation.streams import Streams
from empath.testing.simulation.suppressing import Suppressing
from empath.testing.simulation.workers import FUNCTIONS, Workers

HOSTNAME = "relay.test"
PRIORITIES: tuple[Priority, ...] = ("normal", "high", "normal", "bulk")
"""Of the messages of a run, in turns."""
SESSION = 600
MAX_TRIES = 20
MAX_STEPS = 3_000_000


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    plan: Plan
    violations: tuple[Violation, ...]
    faults: tuple[Fault, ...]
    """Every fault that happened, in order."""
    messages: int
    """Accepted messages, reports among them."""
    attempts: int
    ended_at: int
    steps: int
    history: History


class World:
    def __init__(self, plan: Plan, *, history: bool) -> None:
        self.plan = plan
        self.draws = Draws(plan.seed)
        self.loop = SimulationLoop(runs_at)
        self.history = History(on=history)
        self.faults = Faults(plan, self.draws)
        self.spool = MemorySpool()
        self.ledger = MemoryLedger()
        self.metrics = CountedMetrics()
        setup = plan.setup
        timeouts = {
            name: setup.deliver_timeout if function == "deliver" else setup.timeout
            for name, function in FUNCTIONS.items()
        }
        rules = Reporting(
            has_dsn={hop.domain: hop.dsn for hop in plan.hops},
            last={hop.domain for hop in plan.hops if hop.route in FINAL},
            delay_after=setup.policy["retry"].get("delay_report_after", 4 * 3600.0),
            policy=setup.reports,
        )
        self.invariants = invariants = Invariants(
            self.loop,
            self.ledger,
            self.spool,
            setup.faults_until,
            self.history.readable,
            rules,
            Doubts({hop.domain: hop.on_ambiguous for hop in plan.hops}),
            sinks={hop.domain for hop in plan.hops if hop.route == "sink"},
        )
        self.queue = self.invariants.queue = SimulatedQueue(
            self.loop,
            visibility={name: timeout + setup.visibility_margin for name, timeout in timeouts.items()},
            shuffle=Shuffler(self.draws, "shuffle"),
            on_visible=lambda name, delay: self.workers.visible(name, delay),
            on_removed=self.invariants.removed,
            on_accepted=self._accepted,
            on_illegal=lambda text: self.invariants.broken("requests", text),
        )
        self.listing = LaggingListing(self.loop, lambda: self.workers.expect_tick())
        gate = Gate(self.loop, self.faults, self.history, lambda process: self.workers.crash(process))
        control = MemoryControl({"*": setup.policy, **{hop.domain: hop.policy for hop in plan.hops}})
        control.tenants["*"] = {"reports": setup.reports, "suppression": setup.suppression or {}}
        control.tenants[OPTED_OUT] = {"suppression": {"enabled": False}}
        audit, suppressions = MemoryAudit(), suppressions_of(setup)
        invariants.story = Story(audit, setup.event_types, invariants.broken)
        invariants.suppressing = Suppressing(
            setup.suppression, suppressions, lambda: self.loop.now, invariants.broken
        )
        hops = Hops(gate, plan.hops, self.draws, self.history, invariants.taken)
        resolver = GatedResolver(gate, TroubledResolver(plan.hops, self.draws))
        clock, ids = WorkerClock(), WorkerIds(self.draws)
        self.ports = SimpleNamespace(
            spool=GatedSpool(gate, self.spool, self),
            queue=GatedQueue(gate, self.queue, invariants.heals),
            ledger=GatedLedger(gate, self.ledger, self.listing, self),
            control=GatedControl(gate, control),
            gates=GatedGates(gate, MemoryGates()),
            quotas=GatedQuotas(gate, MemoryQuotas()),
            resolver=resolver,
            routes=SimulatedRoutes(
                memory_routes(resolver=resolver, dialer=hops, clock=clock, ids=ids, hostname=HOSTNAME), hops
            ),
            audit=GatedAudit(gate, audit, invariants.story),
            events=GatedEvents(gate, invariants.story),
            event_types=setup.event_types,
            suppressions=None
            if setup.suppression is None
            else GatedSuppressions(gate, suppressions, invariants.suppressing),
            clock=clock,
            ids=ids,
            metrics=self.metrics,
            hostname=HOSTNAME,
        )
        self.acceptance = Acceptance.over(self.ports)
        self.workers = Workers(self, self.ports)
        self.operators = Operators(self, self.workers, self.ports)
        self.streams = Streams(self, self.workers, self.ports)
        self._waiting_clients = 0

    def label(self, text: str) -> str:
        return self.history.readable(text)

    # Running.

    def run(self) -> Result:
        for message in self.plan.messages:
            self._waiting_clients += 1
            self.loop.at(message.at, lambda message=message: self._connect(message, 1))
        self.operators.begin()
        if self.plan.setup.garbage:
            for number, name in enumerate(FUNCTIONS):
                self.queue.duplicate(name, GARBAGE[number % len(GARBAGE)])
        try:
            self.loop.run(until=self._deadline(), finished=self._is_finished)
            if not self.invariants.violations:
                self.invariants.at_the_end()
        finally:
            self.loop.close()
            self._bury()
        return Result(
            plan=self.plan,
            violations=tuple(self.invariants.violations),
            faults=tuple(self.faults.happened.values()),
            messages=len(self.invariants.accepted),
            attempts=self.metrics.counts.total(),
            ended_at=self.loop.now,
            steps=self.loop.steps,
            history=self.history,
        )

    def _bury(self) -> None:
        """End what the dead left hanging, here and now and not when the collector comes by."""
        for task in asyncio.all_tasks(self.loop.as_asyncio):
            coroutine = task.get_coro()
            if isinstance(coroutine, CoroutineType):
                with suppress(RuntimeError):
                    coroutine.close()

    def _deadline(self) -> int:
        """By then even the report about a message of the last minute has expired."""
        retry = self.plan.setup.policy["retry"]
        expiry = int(retry.get("expiry", 432_000) * SECOND)
        last = max((message.at for message in self.plan.messages), default=0)
        return max(last, self.plan.setup.faults_until) + 2 * expiry + 2 * DAY

    def _is_finished(self) -> bool:
        if self.loop.steps > MAX_STEPS:
            self.invariants.broken("liveness", f"no end after {MAX_STEPS} steps")
        return (
            not self._waiting_clients
            and self.operators.are_done
            and not self.invariants.unsettled
            and self.queue.is_empty
            and self.streams.are_read
        )

    # Clients.

    def _connect(self, message: MessagePlan, number: int) -> None:
        label = message.label if number == 1 else f"{message.label}.{number}"
        session = self.workers.start("ingress", None, self._session(message, label), label)

        def gone() -> None:
            """The client has its answer, or has waited long enough."""
            if session.is_done or number == MAX_TRIES:
                self._waiting_clients -= 1
            else:
                # Nobody said 250, so the client still has the message, and tries again.
                self.loop.after(5 * MINUTE, lambda: self._connect(message, number + 1))

        self.loop.after(SESSION * SECOND, gone)

    async def _session(self, message: MessagePlan, label: str) -> None:
        process = SCOPE.get().process
        message_id = message_id_of(message.number, label)
        self.history.labels[message_id] = label
        content = content_of(message, label)
        notify = dict(zip(message.recipients, message.notify, strict=True))
        asked = Asked(notify, message.automatic)
        accepted = Accepted(label, content, message.prepend, message.sender or "", asked=asked)
        self.invariants.handed_in(message_id, accepted)

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        try:
            await self.acceptance.accept(
                message_id=message_id,
                received_at=self.ports.clock.now(),
                envelope=Envelope(
                    reverse_path=parse_mailbox(message.sender) if message.sender else None,
                    recipients=tuple(
                        Recipient(mailbox=parse_mailbox(to), notify=notify[to]) for to in message.recipients
                    ),
                    ret=message.ret,
                ),
                source=Source(client="127.0.0.1", helo="client.test"),
                content=chunks(),
                additions=lambda: Additions(
                    prepend=message.prepend,
                    priority=PRIORITIES[message.number % len(PRIORITIES)],
                    tenant=message.tenant,
                ),
            )
        except Trouble as trouble:
            self.history.note(self.loop.now, process.name, f"{label}: the client hears {trouble.reply}")
            return
        process.is_done = True
        self.history.note(self.loop.now, process.name, f"{label}: the client hears 250")
        self.invariants.confirmed(message_id)

    # What the ports tell.

    def _accepted(self, body: str) -> None:
        """An accepted job is sent: if it is a report's, its message has a history from now on."""
        job = decode(AcceptedJob, body)
        event = job.source.report_of
        if event is None:
            return
        original, delivery, kind = event.split("/")
        label = f"{self.label(original)}>{delivery.removeprefix('delivery#')}>{kind}"
        self.history.labels.setdefault(job.message_id, label)
        content = self.spool.objects.get(job.spool_key, b"")
        self.invariants.handed_in(job.message_id, Accepted(label, content, job.prepend, "", confirmed=True))
        self.invariants.report_job_sent(job.message_id, event)

    def stored(self, key: str) -> None:
        self.invariants.stored(key)

    def deleted(self, key: str) -> None:
        self.invariants.deleted(key)

    def claimed(self, record: DeliveryRecord) -> None:
        self.invariants.claimed(record)

    def ledger_changed(self) -> None:
        for old, new in self.ledger.take_stream_records():
            self.invariants.changed(old, new)
            if isinstance(new, DeliveryRecord):
                lag = self.faults.once("lag", f"index {self.label(str(new.key))}", self.loop.now)
                self.listing.follow(new, SECOND // 10 if lag is None else int(lag.amount * 10 * MINUTE))
            if new is not None:
                self.streams.changed(old, new)


def suppressions_of(setup: Setup) -> MemorySuppressions:
    """The list as it is when a run begins."""
    found = MemorySuppressions()
    for address in setup.listed:
        found.entries[address] = Suppression(address=address, since=START, origin="operator")
    return found


def message_id_of(number: int, label: str) -> str:
    """A ULID that is the same in every run: the plan's number and the client's try."""
    retry = int(label.partition(".")[2] or 1)
    return f"01SM{number:011d}{retry:011d}"


def content_of(message: MessagePlan, label: str) -> bytes:
    automatic = f"Auto-Submitted: {message.automatic}\r\n" if message.automatic else ""
    head = f"Subject: {label}\r\n{automatic}\r\n".encode()
    return head + b"x" * max(message.size - len(head), 0) + b"\r\n"


def run(plan: Plan, *, history: bool = False) -> Result:
    """Run a plan to its end."""
    world = World(plan, history=history)
    logger = logging.getLogger("empath")
    level, propagates = logger.level, logger.propagate
    listener = _Listener(world)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(listener)
    collecting = gc.isenabled()
    # The dead are closed when they are collected; not in the middle of somebody's turn.
    gc.disable()
    try:
        return world.run()
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagates
        if collecting:
            gc.enable()


class _Listener(logging.Handler):
    """Stages log what they did not expect and go on; here it is the end of the run."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if self._world.loop.is_closed():
            return
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, Trouble):
            self._world.invariants.broken("errors", f"{record.getMessage()}: {error!r}")
