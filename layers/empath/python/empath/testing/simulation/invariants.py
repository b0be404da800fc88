"""What must hold at every step, and at the end, whatever went wrong in between.

Every check is asked only where the step could break it: a change of the ledger, a job that is done with, an
object that is deleted, a message that a next hop takes. So checking costs little, and the step that broke
something is the one that is named. docs/SIMULATION.md says each invariant in words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta

from empath.domain.delivery_state import State
from empath.domain.records import Attempt, DeliveryRecord, MessageRecord
from empath.testing.clock import START
from empath.testing.memory_ledger import MemoryLedger
from empath.testing.memory_spool import MemorySpool
from empath.testing.simulation.doubts import Doubts
from empath.testing.simulation.hops import Taken
from empath.testing.simulation.loop import HOUR, SECOND, SimulationLoop
from empath.testing.simulation.process import SCOPE, Process
from empath.testing.simulation.queues import JobKey, SimulatedQueue
from empath.testing.simulation.reporting import Asked, Reporting
from empath.testing.simulation.story import Story
from empath.testing.simulation.suppressing import Suppressing
from empath.testing.simulation.transitions import delivery_change, message_change

PATIENCE = 3 * HOUR
"""How long after its expiry (or the last fault) a delivery may still be open: jobs in flight, the clock's
quarter of an hour, the slow lane of dead letters."""


@dataclass(frozen=True, slots=True)
class Violation:
    invariant: str
    text: str
    at: int


@dataclass(slots=True)
class Accepted:
    """A message that was handed in, whether or not its client heard 250."""

    label: str
    content: bytes
    prepend: str
    reverse_path: str
    confirmed: bool = False
    asked: Asked = field(default_factory=Asked)


@dataclass
class Invariants:
    loop: SimulationLoop
    ledger: MemoryLedger
    spool: MemorySpool
    faults_until: int
    label: Callable[[str], str]
    reporting: Reporting
    doubts: Doubts
    sinks: Collection[str]
    """Domains whose mail nobody takes: it is dropped."""
    violations: list[Violation] = field(default_factory=list)
    accepted: dict[str, Accepted] = field(default_factory=dict)
    """By message id; reports too, once their job is sent."""
    unsettled: set[str] = field(default_factory=set)
    """Deliveries in the ledger that are not settled, and wait for nobody's decision."""

    def __post_init__(self) -> None:
        self.queue: SimulatedQueue
        self.story: Story
        self.suppressing: Suppressing
        self._messages: dict[str, MessageRecord] = {}
        self._deliveries: defaultdict[str, dict[str, DeliveryRecord]] = defaultdict(dict)
        self._attempts: dict[str, Attempt] = {}
        self._superseded: set[str] = set()
        self._taken: defaultdict[tuple[str, str], list[str | None]] = defaultdict(list)
        self._ids: dict[str, str] = {}
        self._reports: dict[str, str] = {}
        self._judged: set[str] = set()
        self._stored_by: dict[str, Process] = {}

    def broken(self, invariant: str, text: str) -> None:
        self.violations.append(Violation(invariant, text, self.loop.now))
        self.loop.stop()

    # Handing in.

    def handed_in(self, message_id: str, accepted: Accepted) -> None:
        """Somebody is about to call accept; for a report the first such call counts."""
        self.accepted.setdefault(message_id, accepted)
        self._ids[accepted.label] = message_id

    def confirmed(self, message_id: str) -> None:
        """The client heard 250."""
        known = self.accepted[message_id]
        known.confirmed = True
        if self.spool.objects.get(f"messages/{message_id}") != known.content and (
            message_id not in self._messages
        ):
            self.broken("every 250 is true", f"{known.label} is not in the spool")
        if not self._has_accepted_job(message_id) and message_id not in self._messages:
            self.broken("every 250 is true", f"{known.label} is on no queue")

    def report_job_sent(self, message_id: str, event: str) -> None:
        first = self._reports.setdefault(event, message_id)
        if first != message_id:
            self.broken("one report per event", f"a second report about {self.label(event)}")
        elif message_id not in self._judged:
            self._judged.add(message_id)
            original = self.accepted[event.partition("/")[0]]
            content = self.accepted[message_id].content
            for invariant, text in self.reporting.composed(event, original.asked, content):
                self.broken(invariant, self.label(text))

    # The spool.

    def stored(self, key: str) -> None:
        """An object may come and never be used; whether it is there is asked when its message is."""
        self._stored_by[key] = SCOPE.get().process

    def deleted(self, key: str) -> None:
        message_id = key.removeprefix("messages/")
        message = self._messages.get(message_id)
        found = self._deliveries.get(message_id, {})
        name = self.label(message_id)
        if message is None or len(found) < message.deliveries:
            self.broken("raw objects", f"the raw object of {name} went before all its deliveries were made")
        elif any(not record.is_settled for record in found.values()):
            self.broken("raw objects", f"the raw object of {name} went while it was still needed")

    # The ledger.

    def changed(self, old: object, new: object) -> None:
        """One record of the ledger's change log."""
        found: list[tuple[str, str]] = []
        self.story.changed(old, new)
        if isinstance(new, DeliveryRecord):
            now = START + timedelta(microseconds=self.loop.now)
            before = old if isinstance(old, DeliveryRecord) else None
            found += delivery_change(before, new, now)
            found += self.doubts.changed(before, new)
            found += self.suppressing.changed(before, new)
            self._note_delivery(before, new)
        elif isinstance(new, MessageRecord):
            found += message_change(old if isinstance(old, MessageRecord) else None, new)
            self._messages[new.message_id] = new
            if new.forget_at is not None:
                self._closed(new)
        for invariant, text in found:
            name = new.key if isinstance(new, DeliveryRecord) else getattr(new, "message_id", "")
            self.broken(invariant, f"{self.label(str(name))}: {text}")

    def claimed(self, record: DeliveryRecord) -> None:
        scope = SCOPE.get()
        shows = scope.visible_at() if scope.visible_at else None
        if record.lease is None or shows is None:
            return
        until = (record.lease.until - START) // timedelta(microseconds=1) - scope.process.offset
        if until > shows:
            self.broken(
                "leases",
                f"the lease of {scope.label} ends {(until - shows) / SECOND:.0f} s after its job shows again",
            )

    def _note_delivery(self, old: DeliveryRecord | None, new: DeliveryRecord) -> None:
        key = str(new.key)
        self._deliveries[new.message_id][new.delivery] = new
        for entry in new.attempts:
            self._attempts[entry.owner] = entry
        self._superseded.update(entry.owner for entry in new.attempts[:-1] if entry.duration is None)
        if new.is_settled or waits_for_operator(new):
            self.unsettled.discard(key)
        else:
            self.unsettled.add(key)
        if old is None and not new.is_settled and f"messages/{new.message_id}" not in self.spool.objects:
            self.broken("raw objects", f"{self.label(key)} is open and has no raw object")
        self._reporting(old, new)
        self._waking(new)
        if new.is_final and (old is None or not old.is_final):
            self._ended(new)

    def _reporting(self, old: DeliveryRecord | None, new: DeliveryRecord) -> None:
        message = self._messages.get(new.message_id)
        key = self.label(str(new.key))
        if message is None:
            self.broken("conservation", f"{key} has no message")
            return
        if message.reverse_path is None and new.reports:
            self.broken("reports are never reported", f"{key} owes a report to nobody")
        for event, state in new.reports.items():
            if state != "sent" or (old is not None and old.reports.get(event) == "sent"):
                continue
            report = self._reports.get(f"{new.key}/{event}")
            if report is None or (report not in self._messages and not self._has_accepted_job(report)):
                self.broken("conservation", f"{key}: report {event} counts as sent and was never accepted")
        if message.reverse_path is not None:
            asked = self.accepted[new.message_id].asked
            for invariant, text in self.reporting.owed(asked, old, new):
                self.broken(invariant, f"{key}: {text}")

    def _waking(self, record: DeliveryRecord) -> None:
        """Whether somebody will come by for everything that is still to be done."""
        if record.is_settled or self._has_accepted_job(record.message_id):
            return
        living = self.queue.living
        name = self.label(str(record.key))
        for event, state in record.reports.items():
            if state == "owed" and not (
                living[JobKey("dsn", record.message_id, record.delivery, event)]
                or self.queue.about_delivery[record.message_id, record.delivery]
            ):
                self.broken("nothing sleeps for ever", f"{name}: nobody will ever hand in report {event}")
        status = record.status
        if status is State.QUEUED:
            job = JobKey("delivery", record.message_id, record.delivery, str(record.attempt))
            if not living[job]:
                self.broken("nothing sleeps for ever", f"{name} is queued and no job will ever wake it")
        elif status is State.DEFERRED and record.next_attempt_at is None:
            self.broken("nothing sleeps for ever", f"{name} is deferred without a next attempt")

    def _ended(self, record: DeliveryRecord) -> None:
        name = self.label(str(record.key))
        expires = (record.expires - START) // timedelta(microseconds=1)
        is_late = self.loop.now > max(expires, self.faults_until) + PATIENCE
        # What is held does not expire, and comes to its end when somebody decides.
        if is_late and record.operation is None:
            self.broken("liveness", f"{name} came to its end long after its expiry")
        for address, known in record.recipients.items():
            if record.domain in self.sinks:
                continue
            if known.state is State.SENT and not self._taken[self._label(record), address]:
                self.broken("conservation", f"{name}: {address} is SENT and nobody took it")

    def _closed(self, message: MessageRecord) -> None:
        if message.spool_key in self.spool.objects and not self._may_come_again(message):
            self.broken("raw objects", f"{self.label(message.message_id)} is closed and has a raw object")

    def _may_come_again(self, message: MessageRecord) -> bool:
        """A report that is handed in once more puts its object back, until its job is worked off."""
        return message.source.report_of is not None

    # Queues.

    def removed(self, job: JobKey) -> None:
        """A job was done with: whatever it stood for must have somebody else, or be done."""
        if job.kind == "accepted":
            message = self._messages.get(job.message_id)
            found = self._deliveries.get(job.message_id, {})
            missing = message is None or len(found) < message.deliveries
            if missing and not self._has_accepted_job(job.message_id):
                self.broken(
                    "nothing sleeps for ever", f"{self.label(job.message_id)} was accepted and is forgotten"
                )
            for record in found.values():
                self._waking(record)
            return
        known = self._deliveries.get(job.message_id, {}).get(job.delivery)
        if known is not None:
            self._waking(known)

    def heals(self, job: JobKey) -> bool:
        """Whether the clock would miss a delivery's job: it looks for those of deferred deliveries alone."""
        known = self._deliveries.get(job.message_id, {}).get(job.delivery)
        return known is not None and known.status is State.DEFERRED

    def _has_accepted_job(self, message_id: str) -> bool:
        return bool(self.queue.living[JobKey("accepted", message_id)])

    # Next hops.

    def taken(self, taken: Taken) -> None:
        """A next hop took a message: whole, and not twice but where the ledger says so."""
        known = self.accepted.get(self._ids.get(taken.message, ""))
        if known is None:
            self.broken("conservation", f"{taken.message} was sent and never accepted")
            return
        if taken.content != known.prepend.encode() + known.content:
            self.broken("content", f"{taken.message} was sent with another content")
        if taken.declared_size != len(taken.content):
            self.broken("content", f"{taken.message}: {taken.declared_size} octets were declared")
        if taken.reverse_path != known.reverse_path:
            self.broken("content", f"{taken.message} was sent in the name of {taken.reverse_path!r}")
        for address in taken.recipients:
            owners = self._taken[taken.message, address]
            owners.append(taken.owner)
            doubts = self.doubts.taken(
                taken.domain, taken.owner, self._ids[taken.message], address, len(owners)
            )
            for invariant, text in doubts:
                self.broken(invariant, f"{taken.message}: {text}")
            if self.suppressing.is_refused(self._ids[taken.message], address):
                self.broken("suppression", f"{taken.message}: {address} failed by the list and got it")
            if len(owners) > 1:
                self._sent_twice(taken.message, address, owners)

    def _sent_twice(self, message: str, address: str, owners: list[str | None]) -> None:
        if len(set(owners)) < len(owners):
            self.broken("nothing is sent twice", f"{message}: {address} twice under one claim")
        clean = [owner for owner in owners if not self._is_ambiguous(owner)]
        if len(clean) > 1:
            self.broken(
                "nothing is sent twice",
                f"{message}: {address} got it from {' and '.join(map(str, clean))}, none of them ambiguous",
            )

    def _is_ambiguous(self, owner: str | None) -> bool:
        entry = self._attempts.get(owner or "")
        return entry is not None and (
            entry.ambiguous or (entry.duration is None and owner in self._superseded)
        )

    def _label(self, record: DeliveryRecord) -> str:
        return self.label(record.message_id)

    # The end.

    def _is_orphan(self, key: str) -> bool:
        """Whether an object was put back by a worker that stood still until all others were done, and
        died before it sent the job: nobody can know of it but the bucket's lifecycle."""
        process = self._stored_by[key]
        return process.was_paused and not process.alive

    def at_the_end(self) -> None:
        """When nothing is left to do, everything must be accounted for."""
        for key in sorted(self.unsettled):
            self.broken("liveness", f"{self.label(key)} never came to an end")
        for message_id, accepted in self.accepted.items():
            if not accepted.confirmed:
                continue
            message = self._messages.get(message_id)
            if message is None:
                self.broken("conservation", f"{accepted.label} heard 250 and the ledger never knew it")
            elif not self._is_held(message_id) and (not message.is_settled or message.forget_at is None):
                self.broken("conservation", f"{accepted.label} was never settled")
        self._raw_objects_at_the_end()
        for (label, address), owners in self._taken.items():
            if len(owners) > 1:
                self._sent_twice(label, address, owners)
        for invariant, text in (*self.story.at_the_end(), *self.suppressing.at_the_end()):
            self.broken(invariant, self.label(text))

    def _raw_objects_at_the_end(self) -> None:
        for message_id in self._messages:
            key = f"messages/{message_id}"
            if self._is_held(message_id):
                if key not in self.spool.objects:
                    self.broken("raw objects", f"{self.label(message_id)} is held and has no raw object")
            elif key in self.spool.objects and not self._is_orphan(key):
                self.broken("raw objects", f"{self.label(message_id)} is settled and has a raw object")

    def _is_held(self, message_id: str) -> bool:
        return any(map(waits_for_operator, self._deliveries[message_id].values()))


def waits_for_operator(record: DeliveryRecord) -> bool:
    """Whether nothing more happens to a delivery until somebody decides."""
    return record.status is State.HELD and not record.owes_reports
