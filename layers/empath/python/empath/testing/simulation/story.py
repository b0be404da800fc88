"""What must be told of mail: an audit trail that is complete and verifies, and events for who wants them.

The oracle reads the change log as it is written and notes what each change is worth, by rules of its own;
what was told is held against that when the run is over. How a line is worded is not its business.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from empath.domain.audit_chain import Block, Head, sha256_of
from empath.domain.delivery_state import FINAL, State
from empath.domain.lifecycle import LifecycleEvent, LifecycleType
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.pipeline.audit_check import check
from empath.testing.memory_audit import MemoryAudit
from empath.testing.simulation.transitions import Found, is_operated

Fact = tuple[str, ...]
"""A kind of line or event, and what it is about."""


class Story:
    def __init__(
        self, audit: MemoryAudit, event_types: Sequence[LifecycleType], broken: Callable[[str, str], None]
    ) -> None:
        self._audit, self._event_types, self._broken = audit, event_types, broken
        self._lines: Counter[Fact] = Counter()
        """Lines that the trail must have."""
        self._latest: dict[str, DeliveryRecord] = {}
        self._events: Counter[Fact] = Counter()
        self._told: dict[str, LifecycleEvent] = {}
        """By id."""

    # What happens.

    def changed(self, old: object, new: object) -> None:
        """One record of the ledger's change log."""
        if isinstance(new, MessageRecord) and old is None:
            self._lines["MessageReceived", new.message_id] += 1
        elif isinstance(new, DeliveryRecord):
            self._delivery_changed(old if isinstance(old, DeliveryRecord) else None, new)

    def _delivery_changed(self, old: DeliveryRecord | None, new: DeliveryRecord) -> None:
        name = str(new.key)
        if new.operation is not None and is_operated(old, new):
            self._lines["OperatorAction", name, f"queue {new.operation.action}"] += 1
        before = {(entry.attempt, entry.owner) for entry in old.attempts} if old is not None else set()
        for entry in new.attempts:
            # Every claim comes to a line: when it is recorded, or when somebody else's is.
            if (entry.attempt, entry.owner) not in before:
                self._lines["DeliveryAttempt", name, str(entry.attempt)] += 1
        self._latest[name] = new
        for address, known in new.recipients.items():
            earlier = old.recipients.get(address) if old is not None else None
            if earlier is known:
                continue
            state = known.state
            if state in FINAL and (earlier is None or earlier.state is not state):
                kind = "DeliverySuccess" if state is State.SENT else "DeliveryFailure"
                self._lines[kind, name, address, state] += 1
            is_new = earlier is None or (earlier.state, earlier.attempt) != (state, known.attempt)
            event = state.lower()
            if is_new and event in self._event_types:
                self._events[event, name, address, str(known.attempt)] += 1

    def told(self, events: Sequence[LifecycleEvent]) -> None:
        """The bus took events."""
        for event in events:
            if self._told.setdefault(event.id, event) != event:
                self._broken("events", f"two events have the id {event.id}")

    def head_moved(self, head: Head) -> None:
        """A chain's head is where it says."""
        if head.last is None:
            return
        content = self._audit.objects.get(head.last.key)
        if content is None or sha256_of(content) != head.last.sha256:
            self._broken("audit trail", f"the head of chain {head.shard} names a block that is not there")

    # The end.

    def at_the_end(self) -> Iterator[Found]:
        """When every change was worked off, everything must be told, and nothing else."""
        # The run is over, and so is its loop: reading ahead takes one of its own.
        findings = asyncio.run(check(self._audit))
        for fault in findings.faults:
            yield "audit trail", f"{fault.key}: {fault.what}"
        lines: dict[str, str] = {}
        for content in self._audit.objects.values():
            for line in Block.decode(content).lines:
                known = lines.setdefault(json.loads(line)["id"], line)
                if known != line:
                    yield "audit trail", f"two lines have one id: {known} and {line}"
        told = [json.loads(line) for line in lines.values()]
        expected = self._lines - Counter(self._yet_to_be_told())
        yield from _difference("audit trail", expected, Counter(map(_fact_of_line, told)))
        recorded = Counter(
            fact for fields in told if "duration" in fields and (fact := _fact_of_line(fields))
        )
        for fact, times in recorded.items():
            if times > 1:
                yield "audit trail", f"{' '.join(fact)} ended {times} times"
        yield from _difference("events", self._events, Counter(map(_fact_of_event, self._told.values())))

    def _yet_to_be_told(self) -> Iterator[Fact]:
        """Attempts of held deliveries whose workers died: there is a line when the next one is recorded."""
        for name, record in self._latest.items():
            if not record.is_final:
                for entry in record.attempts:
                    if entry.duration is None and not entry.ambiguous:
                        yield "DeliveryAttempt", name, str(entry.attempt)


def _fact_of_line(fields: dict[str, Any]) -> Fact:
    kind, message_id = fields["type"], fields["message_id"]
    if kind == "MessageReceived":
        return kind, message_id
    name = f"{message_id}/{fields['delivery']}"
    if kind == "OperatorAction":
        return kind, name, fields["action"]
    if kind == "DeliveryAttempt":
        return kind, name, str(fields["attempt"])
    return kind, name, fields["recipient"], fields["state"]


def _fact_of_event(event: LifecycleEvent) -> Fact:
    return event.type, f"{event.message_id}/{event.delivery}", event.recipient, str(event.attempt)


def _difference(invariant: str, expected: Counter[Fact], found: Counter[Fact]) -> Iterator[Found]:
    for fact in expected - found:
        yield invariant, f"nothing tells of {' '.join(fact)}"
    for fact in found - expected:
        yield invariant, f"{' '.join(fact)} is told and did not happen so often"
