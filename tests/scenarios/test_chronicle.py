"""The stream worked off: what is told of mail is complete, once, and by its published schema."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from empath.domain.audit import AuditRecord
from empath.domain.audit_chain import Block
from empath.domain.errors import (
    AuditTrouble,
    ControlTrouble,
    EventsTrouble,
    LedgerTrouble,
    SpoolTrouble,
    Trouble,
)
from empath.domain.lifecycle import LIFECYCLE_TYPES, LifecycleEvent
from empath.domain.outcome import Deferred, Failed
from empath.domain.redaction import REDACTED_FIELDS, Redaction
from empath.domain.reply import Reply
from empath.pipeline.audit_check import check
from empath.pipeline.changes import StreamChange
from empath.pipeline.chronicle import Chronicle
from empath.testing.faults import AFTER, BEFORE, Faults, When, WorkerDied
from empath.testing.memory_audit import MemoryAudit, MemoryEvents
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.memory_suppressions import MemorySuppressions
from empath.testing.relay import MemoryRelay

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


class Told:
    """A relay's stream, its chronicle, and what came of it."""

    def __init__(self, relay: MemoryRelay, **settings: Any) -> None:
        self.relay = relay
        self.faults = Faults()
        self.audit, self.events = MemoryAudit(), MemoryEvents()
        self.chronicle = Chronicle(
            spool=self.faults.wrap("spool", relay.spool, SpoolTrouble),
            ledger=self.faults.wrap("ledger", relay.ledger, LedgerTrouble),
            clock=relay.clock,
            audit=self.faults.wrap("audit", self.audit, AuditTrouble),
            events=self.faults.wrap("events", self.events, EventsTrouble),
            **{"event_types": LIFECYCLE_TYPES, **settings},
        )
        self.changes: list[StreamChange] = []

    def records(self) -> list[AuditRecord]:
        blocks = [Block.decode(content) for _, content in sorted(self.audit.objects.items())]
        return [AuditRecord.model_validate_json(line) for block in blocks for line in block.lines]

    def of_type(self, kind: str) -> list[AuditRecord]:
        return [record for record in self.records() if record.type == kind]


async def stream_of(relay: MemoryRelay, told: Told, messages: int = 1) -> None:
    """Mail with every outcome, its changes gathered and not yet worked off."""
    for _ in range(messages):
        await relay.submit("sender@example.org", ["a@example.com", "b@reject.test", "c@defer.test"])
    taken = relay.ledger.take_stream_records

    def both() -> list[Any]:
        changes = taken()
        at = relay.clock.now().replace(microsecond=0)
        for old, new in changes:
            told.changes.append(StreamChange(f"E{len(told.changes)}", at, old, new))
        return changes

    relay.ledger.take_stream_records = both  # type: ignore[method-assign]
    await relay.run()


@pytest.fixture
def relay() -> MemoryRelay:
    dialer = ScriptedDialer()
    dialer.host("reject.test").outcome = Failed(Reply.heard(550, "5.1.1 <b@reject.test>: no such user"))
    dialer.host("defer.test").outcome = Deferred(Reply.heard(451, "4.7.1 <c@defer.test>: try again later"))
    return MemoryRelay(dialer=dialer)


async def test_every_message_attempt_and_end_is_in_the_trail_once(relay: MemoryRelay) -> None:
    told = Told(relay)
    await stream_of(relay, told)
    await told.chronicle.take(told.changes)
    received = told.of_type("MessageReceived")
    assert {record.reverse_path for record in received} == {"sender@example.org", ""}
    ends = {
        (r.recipient, r.state) for r in told.records() if r.type in ("DeliverySuccess", "DeliveryFailure")
    }
    assert ("a@example.com", "SENT") in ends
    assert ("b@reject.test", "FAILED") in ends
    assert ("c@defer.test", "EXPIRED") in ends
    recorded = sum(
        len([attempt for attempt in record.attempts if attempt.duration is not None])
        for record in relay.ledger.all_deliveries()
    )
    attempts = told.of_type("DeliveryAttempt")
    # The ledger keeps the last 20 attempts of a delivery, the trail keeps all.
    assert len(attempts) >= recorded
    for record in relay.ledger.all_deliveries():
        of_this = [r for r in attempts if (r.message_id, r.delivery) == (record.message_id, record.delivery)]
        assert sorted(r.attempt or 0 for r in of_this) == list(range(1, record.attempt))
    assert all((r.trouble is None) == ("SENT" in (r.recipients or {}).values()) for r in attempts)


async def test_applications_hear_of_what_they_chose_and_by_the_schema(relay: MemoryRelay) -> None:
    told = Told(relay, event_types=("failed", "expired", "deferred"))
    await stream_of(relay, told)
    await told.chronicle.take(told.changes)
    heard = [(event.recipient, event.type) for event in told.events.told]
    assert heard.count(("b@reject.test", "failed")) == 1
    assert heard.count(("c@defer.test", "expired")) == 1
    assert heard.count(("c@defer.test", "deferred")) > 3
    assert not [kind for _, kind in heard if kind == "sent"]
    assert len({event.id for event in told.events.told}) == len(told.events.told)
    schema = json.loads((SCHEMAS / "lifecycle-event.json").read_text())
    for event in told.events.told:
        jsonschema.validate(json.loads(event.detail()), schema)
    deferred = next(event for event in told.events.told if event.type == "deferred")
    assert deferred.next_attempt_at is not None
    assert deferred.trouble is not None


async def test_audit_lines_are_by_their_schema(relay: MemoryRelay) -> None:
    told = Told(relay)
    await stream_of(relay, told)
    await told.chronicle.take(told.changes)
    schema = json.loads((SCHEMAS / "audit-record.json").read_text())
    for record in told.records():
        jsonschema.validate(json.loads(record.line()), schema)


@pytest.mark.parametrize(
    ("name", "model"), [("lifecycle-event", LifecycleEvent), ("audit-record", AuditRecord)]
)
def test_the_published_schema_is_the_models(name: str, model: type[LifecycleEvent | AuditRecord]) -> None:
    published = json.loads((SCHEMAS / f"{name}.json").read_text())
    assert published == model.model_json_schema(mode="serialization")


async def test_what_is_redacted_is_nowhere(relay: MemoryRelay) -> None:
    told = Told(relay, redaction=Redaction.of(REDACTED_FIELDS))
    await stream_of(relay, told)
    await told.chronicle.take(told.changes)
    everything = [record.line() for record in told.records()] + [e.detail() for e in told.events.told]
    for text in everything:
        for secret in ("sender@", "a@example", "b@reject", "c@defer", "127.0.0.1", "client.test"):
            assert secret not in text.replace("[127.0.0.1]", "")
    assert "[REDACTED]@example.com" in {record.recipient for record in told.records()}


async def test_a_recipient_whom_the_next_hop_names_without_a_domain_is_not_told(relay: MemoryRelay) -> None:
    relay.dialer.host("reject.test").outcome = Failed(Reply.heard(550, "5.1.1 no mailbox b.lee"))  # type: ignore[attr-defined]
    told = Told(relay, redaction=Redaction.of(["recipient"]))
    await relay.submit("sender@example.org", ["b.lee@reject.test"])
    await stream_of(relay, told)
    await told.chronicle.take(told.changes)
    everything = [record.line() for record in told.records()] + [e.detail() for e in told.events.told]
    assert any("550 5.1.1 no mailbox [REDACTED]" in text for text in everything)
    assert not any("b.lee" in text for text in everything)


@pytest.mark.parametrize(
    ("fields", "text", "expected"),
    [
        (("recipient",), "<ann@example.com>: User unknown", "<[REDACTED]@example.com>: User unknown"),
        (("recipient",), 'no "ann lee"@example.com here', "no [REDACTED]@example.com here"),
        (("recipient",), "nobody at all", "nobody at all"),
        (("reply",), "nobody at all", "[REDACTED]"),
        (("client",), "<ann@example.com>", "<ann@example.com>"),
        (("reverse_path",), "<joe@a.test>: Sender rejected", "<[REDACTED]@a.test>: Sender rejected"),
        (("recipient",), r'no "a\"b c"@example.com here', "no [REDACTED]@example.com here"),
        (("recipient",), "no mailbox Ann.Lee at all", "no mailbox [REDACTED] at all"),
        (("recipient",), "550-ann.lee is unknown", "550-[REDACTED] is unknown"),
        (("recipient",), "ann.leeds is unknown", "ann.leeds is unknown"),
        (("reverse_path",), "no mailbox ann.lee", "no mailbox ann.lee"),
    ],
)
def test_addresses_in_a_reply_go_with_whose_they_may_be(fields: Any, text: str, expected: str) -> None:
    assert Redaction.of(fields).reply(text, ["ann.lee@example.com"]) == expected


class _NoJournal:
    """Leaves settling to the chronicle."""

    async def note(self, *_: Any) -> None:
        return None


EFFECTS = (
    "spool.delete",
    "ledger.settle",
    "ledger.close",
    "events.publish",
    "audit.put_new",
    "audit.advance",
)


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize("error", [None, WorkerDied()], ids=["trouble", "death"])
async def test_a_batch_that_fails_or_dies_anywhere_leaves_nothing_untold_and_nothing_twice(
    relay: MemoryRelay, effect: str, when: When, error: BaseException | None
) -> None:
    told = Told(relay)
    relay.journal = _NoJournal()  # type: ignore[assignment]
    await stream_of(relay, told)
    told.faults.fail(effect, when=when, error=error)
    for _ in range(3):
        try:
            await told.chronicle.take(told.changes)
        except (Trouble, WorkerDied):
            continue
    ids = [record.id for record in told.records()]
    assert len(ids) == len(set(ids))
    assert len(told.of_type("DeliverySuccess")) >= 1
    assert len(told.of_type("DeliveryFailure")) == 2
    assert {event.id for event in told.events.told if event.type == "failed"}
    assert (await check(told.audit)).is_sound
    assert relay.spool.objects == {}


@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize("error", [None, WorkerDied()], ids=["trouble", "death"])
async def test_an_address_is_suppressed_though_its_first_write_fails_or_the_worker_dies(
    relay: MemoryRelay, when: When, error: BaseException | None
) -> None:
    told, listed = Told(relay), MemorySuppressions()
    await stream_of(relay, told)
    told.chronicle = replace(
        told.chronicle,
        control=relay.control,
        suppressions=told.faults.wrap("suppressions", listed, ControlTrouble),
    )
    told.faults.fail("suppressions.add", when=when, error=error)
    with pytest.raises((ControlTrouble, WorkerDied)):
        await told.chronicle.take(told.changes)
    assert told.records() == []
    await told.chronicle.take(told.changes)
    assert set(listed.entries) == {"b@reject.test"}
    assert len({record.id for record in told.records()}) == len(told.records()) > 0


@pytest.mark.parametrize("effect", ["ledger.settle", "suppressions.add", "events.publish"])
async def test_trouble_with_one_of_settling_suppressing_and_telling_keeps_none_of_the_others_waiting(
    relay: MemoryRelay, effect: str
) -> None:
    told, listed = Told(relay), MemorySuppressions()
    relay.journal = _NoJournal()  # type: ignore[assignment]
    await stream_of(relay, told)
    told.chronicle = replace(
        told.chronicle,
        control=relay.control,
        suppressions=told.faults.wrap("suppressions", listed, ControlTrouble),
    )
    told.faults.fail(effect, times=None)
    with pytest.raises(Trouble):
        await told.chronicle.take(told.changes)
    is_done = {
        "ledger.settle": any(message.is_settled for message in relay.ledger.messages()),
        "suppressions.add": bool(listed.entries),
        "events.publish": bool(told.events.told),
    }
    assert is_done == {name: name != effect for name in is_done}
    # People read the trail: it is written when nothing else can fail any more.
    assert told.records() == []


@pytest.mark.parametrize("seed", range(10))
async def test_batches_given_again_in_other_cuts_repeat_lines_by_their_ids_and_lose_none(
    relay: MemoryRelay, seed: int
) -> None:
    told, draws = Told(relay), random.Random(seed)
    await stream_of(relay, told, messages=3)
    expected = await once(relay, told)
    at = 0
    while at < len(told.changes):
        size = draws.randrange(1, 30)
        effect, when = draws.choice(EFFECTS[3:]), draws.choice((BEFORE, AFTER))
        if draws.random() < 0.4:
            told.faults.fail(effect, when=when, error=draws.choice((None, WorkerDied())))
        part = told.changes[at : at + size]
        while True:
            try:
                await told.chronicle.take(part)
                break
            except (Trouble, WorkerDied):
                part = part[: max(1, len(part) // 2)]
        at += len(part)
        if draws.random() < 0.2:
            at -= len(part) // 2
    assert {record.id for record in told.records()} == expected
    findings = await check(told.audit)
    assert findings.is_sound, findings.faults


async def once(relay: MemoryRelay, told: Told) -> set[str]:
    """The ids of the records when everything goes well."""
    well = replace(told.chronicle, audit=MemoryAudit(), events=None)
    await well.take(told.changes)
    store: Any = well.audit
    blocks = [Block.decode(content) for content in store.objects.values()]
    return {json.loads(line)["id"] for block in blocks for line in block.lines}
