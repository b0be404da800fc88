"""`empathctl circuit`: what is let alone and why; closing it; and the story of what a gate holds back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from empath.control import circuit_commands
from empath.control.__main__ import run
from empath.control.circuits import circuit_document
from empath.control.documents import message_document
from empath.control.story import next_of
from empath.domain.circuit import CLOSED, Circuit, Probe
from empath.domain.delivery_state import State
from empath.domain.errors import ControlTrouble, LedgerTrouble
from empath.domain.instant import format_instant
from empath.domain.line import Book
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord, RecipientRecord
from empath.pipeline.operating import Operations
from empath.ports import QueueName
from empath.testing.clock import START, ManualClock
from empath.testing.faults import Faults
from empath.testing.memory_gates import MemoryGates
from empath.testing.memory_ledger import MemoryLedger
from empath.testing.relay import MemoryRelay
from tests.unit.control.audited import AuditedTarget

S = timedelta(seconds=1)
FAR = datetime(2999, 1, 1, tzinfo=UTC)
OPEN = Circuit(open_until=FAR, opened_at=START, openings=3, cause="451 4.4.1 \x1b[31m[bold]refused")


@dataclass
class MemoryTarget(AuditedTarget):
    store: MemoryGates = field(default_factory=MemoryGates)
    faults: Faults = field(default_factory=Faults)
    relay: MemoryRelay = field(default_factory=lambda: MemoryRelay(clock=ManualClock(datetime.now(UTC))))

    @asynccontextmanager
    async def gates(self) -> AsyncIterator[MemoryGates]:
        yield self.faults.wrap("gates", self.store, ControlTrouble)

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[MemoryLedger]:
        yield self.faults.wrap("ledger", self.relay.ledger, LedgerTrouble)

    @asynccontextmanager
    async def operations(self) -> AsyncIterator[Operations]:
        relay = self.relay
        yield Operations(relay.queue, relay.ledger, relay.clock, relay.ids, "arn:aws:iam::1:user/ann")

    def hold_back(self, domain: str, count: int) -> None:
        """So many messages that an open circuit puts off for longer than queues can."""
        self.relay.clock.advance(60)  # so that the worker looks which circuits are open
        opened = Circuit(open_until=self.relay.clock.now() + 3600 * S, openings=1, cause="451 refused")
        self.relay.gates.known[domain] = opened

        async def hold() -> None:
            for number in range(count):
                await self.relay.submit("ann@a.test", [f"user{number}@{domain}"])
                await self.relay.work(QueueName.ACCEPTED)
            while await self.relay.work(QueueName.DELIVERY):
                pass

        asyncio.run(hold())


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    target = MemoryTarget()
    target.store.known = {"mx.b.test": OPEN, "mx.c.test": Circuit(failures=(START,))}
    monkeypatch.setattr(circuit_commands, "find_target", lambda _: target)
    return target


def test_a_list_shows_what_is_open_why_and_since_when(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["circuit", "list"]) == 0
    shown = capsys.readouterr().out
    assert "mx.b.test" in shown
    assert "[bold]refused" in shown
    assert "\x1b" not in shown
    assert "mx.c.test" not in shown


def test_the_same_as_json(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["circuit", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "circuits": [
            {
                "site": "mx.b.test",
                "phase": "open",
                "open_until": "2999-01-01T00:00:00.000Z",
                "opened_at": "2026-03-01T12:00:00.000Z",
                "openings": 3,
                "probe_until": None,
                "cause": OPEN.cause,
            }
        ]
    }


def test_nothing_open_is_said(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    target.store.known = {}
    assert run(["circuit", "list"]) == 0
    assert "No circuit is open" in capsys.readouterr().out


def test_a_reset_closes_one_and_only_it(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    target.store.known["mx.d.test"] = OPEN
    assert run(["circuit", "reset", "MX.b.test"]) == 0
    assert target.store.known["mx.b.test"] == CLOSED
    assert target.store.known["mx.d.test"] == OPEN
    assert "within 5 seconds" in capsys.readouterr().out
    asked, done = target.lines()
    assert (asked.action, asked.target, asked.result) == ("circuit reset", "mx.b.test", "asked")
    assert (done.result, done.after) == ("done", "closed")
    assert (done.before or "").startswith("open: 451 4.4.1")


def test_a_reset_tells_how_much_waits_for_the_site_and_until_when(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.store.known["b.test"] = OPEN
    target.hold_back("b.test", 3)
    target.hold_back("c.test", 2)
    assert run(["circuit", "reset", "b.test"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "3 deliveries wait in the ledger, the last until" in shown
    assert "empathctl circuit reset b.test --retry" in shown
    assert {record.status for record in target.relay.ledger.all_deliveries()} == {State.DEFERRED}
    target.store.known["b.test"] = OPEN
    assert run(["circuit", "reset", "b.test", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    waits = [record for record in target.relay.ledger.all_deliveries() if record.domain == "b.test"]
    last = max(record.next_attempt_at for record in waits if record.next_attempt_at)
    assert told["waiting"] == {"deliveries": 3, "until": format_instant(last), "has_more": False}
    assert "retry" not in told


def test_with_retry_what_waits_for_the_site_is_tried_now_and_nothing_else(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.store.known["b.test"] = OPEN
    target.hold_back("b.test", 3)
    target.hold_back("c.test", 2)
    # As the words of a reset have it: once it is closed, again with --retry.
    assert run(["circuit", "reset", "b.test"]) == 0
    capsys.readouterr()
    assert run(["circuit", "reset", "b.test", "--retry", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["retry"]["counts"]["done"] == 3
    assert len(target.relay.queue.pending(QueueName.RETRY)) == 3
    reasons = {(one.domain, one.reason) for one in target.relay.ledger.all_deliveries()}
    assert reasons == {("b.test", Reason.OPERATOR_RETRY), ("c.test", Reason.CIRCUIT_OPEN)}


def test_a_ledger_that_does_not_answer_does_not_hide_that_the_circuit_is_closed(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.faults.fail("ledger.listed", times=None)
    assert run(["circuit", "reset", "mx.b.test"]) == 1
    assert "is closed, but what waits" in capsys.readouterr().err
    assert target.store.known["mx.b.test"] == CLOSED


def test_a_reset_ends_the_lines_for_a_rate_too(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.store.books["mx.d.test", 0] = Book(tat=1, ends={"bulk": 2})
    assert run(["circuit", "reset", "mx.d.test"]) == 0
    assert "nobody new stands behind" in capsys.readouterr().out
    assert target.store.books["mx.d.test", 0] == Book(tat=1)
    assert run(["circuit", "reset", "mx.d.test"]) == 1


@pytest.mark.parametrize("site", ["mx.c.test", "nobody.test"])
def test_a_reset_of_what_is_not_open_fails_and_changes_nothing(
    target: MemoryTarget, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dict(target.store.known)
    assert run(["circuit", "reset", site]) == 1
    assert "circuit list" in capsys.readouterr().err
    assert target.store.known == before
    assert [line.result for line in target.lines()] == ["asked", "failed"]


def test_trouble_is_one_line(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    target.faults.fail("gates.circuits")
    assert run(["circuit", "list"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_probe_is_told() -> None:
    probed = Circuit(open_until=START, openings=1, probe=Probe("x", START + 60 * S))
    document = circuit_document("mx.b.test", probed, START + S)
    assert (document["phase"], document["probe_until"]) == ("probing", "2026-03-01T12:01:00.000Z")


def delivery(state: State = State.QUEUED, **more: object) -> DeliveryRecord:
    recipient = RecipientRecord(state=state)
    return DeliveryRecord.model_validate(
        {
            "message_id": "m",
            "delivery": "delivery#b.test",
            "domain": "b.test",
            "siblings": 1,
            "received_at": START,
            "expires": START + 86_400 * S,
            "recipients": {"bob@b.test": recipient},
            "site": "mx.b.test",
            **more,
        }
    )


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.CIRCUIT_OPEN, "circuit open"),
        (Reason.SLOT_RESERVED, "its slot in the rate limit"),
        (Reason.RATE_LIMITED, "no slot"),
        (Reason.CONNECTIONS_IN_USE, "connections"),
    ],
)
def test_the_story_names_the_gate_that_holds_a_delivery_back_and_until_when(
    reason: Reason, words: str
) -> None:
    due = START + 3600 * S
    told = next_of(delivery(State.DEFERRED, reason=reason, next_attempt_at=due), START)
    assert told.at == due
    assert words in told.text


def test_the_story_of_what_was_never_tried_looks_at_the_circuit_itself() -> None:
    told = next_of(delivery(), START, {"mx.b.test": OPEN})
    assert told.at == FAR
    assert "circuit open" in told.text
    assert next_of(delivery(), START, {"mx.c.test": OPEN}).at is None
    due = Circuit(open_until=START - S, openings=1)
    assert next_of(delivery(), START, {"mx.b.test": due}).text == "attempt 1, when a worker is free"
    document = message_document("m", None, [delivery()], START, {"mx.b.test": OPEN})
    assert document["deliveries"][0]["next"]["at"] == "2999-01-01T00:00:00.000Z"
