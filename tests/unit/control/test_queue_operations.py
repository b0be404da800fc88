"""`empathctl queue hold|release|retry|delete`: whom they mean, what they say, and how they end."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from empath.control import queue_commands
from empath.control.__main__ import run
from empath.domain.delivery_state import State
from empath.domain.errors import LedgerTrouble
from empath.domain.outcome import Deferred
from empath.domain.records import DeliveryRecord, Lease
from empath.domain.reply import Reply
from empath.pipeline.operating import Operations
from empath.ports import QueueName
from empath.testing.faults import Faults
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.memory_ledger import MemoryLedger
from empath.testing.relay import MemoryRelay

LATER = Deferred(Reply.heard(451, "4.7.1 later"))
DOMAINS = ("defer.test", "other.test")
NOBODY = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@dataclass
class MemoryTarget:
    relay: MemoryRelay
    faults: Faults = field(default_factory=Faults)
    description: str = "memory"

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[MemoryLedger]:
        yield self.relay.ledger

    @asynccontextmanager
    async def operations(self) -> AsyncIterator[Operations]:
        ledger = self.faults.wrap("ledger", self.relay.ledger, LedgerTrouble)
        yield Operations(
            self.relay.queue, ledger, self.relay.clock, self.relay.ids, "arn:aws:iam::1:user/ann"
        )

    def submit(self, *to: str, **fields: Any) -> str:
        """A message whose deliveries have been tried once."""

        async def submit() -> str:
            message_id = await self.relay.submit("ann@a.test", list(to), **fields)
            await self.relay.work(QueueName.ACCEPTED)
            while await self.relay.work(QueueName.DELIVERY):
                pass
            return message_id

        return asyncio.run(submit())

    def deliveries(self, message_id: str) -> dict[str, DeliveryRecord]:
        records = asyncio.run(self.relay.ledger.deliveries(message_id))
        return {record.domain: record for record in records}

    def states(self, message_id: str) -> dict[str, State]:
        return {domain: record.status for domain, record in self.deliveries(message_id).items()}


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    dialer = ScriptedDialer()
    for domain in DOMAINS:
        dialer.host(domain).outcome = LATER
    target = MemoryTarget(MemoryRelay(dialer=dialer))
    # What waits is due in the future for the command line, too.
    target.relay.clock.advance_to(target.relay.clock.now() + timedelta(days=365_000))
    monkeypatch.setattr(queue_commands, "find_target", lambda _: target)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return target


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_a_message_is_held_released_and_deleted(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    message_id = target.submit("bob@defer.test")
    for arguments, words in [
        (["hold", message_id.lower()], "defer.test: DEFERRED -> HELD\n"),
        (["hold", message_id], "defer.test: HELD already, nothing to do\n"),
        (["release", message_id], "defer.test: HELD -> DEFERRED, its attempt is due now\n"),
        (["retry", message_id], "defer.test: DEFERRED -> DEFERRED, its attempt is due now\n"),
        (
            ["delete", message_id, "--report"],
            "defer.test: DEFERRED -> FAILED, and the sender gets a report\n",
        ),
    ]:
        assert run(["queue", *arguments]) == 0
        assert said(capsys) == words
    assert run(["queue", "hold", message_id]) == 1
    assert said(capsys) == "defer.test: FAILED, there is nothing left to hold\n"


def test_only_the_delivery_to_a_domain_is_meant(target: MemoryTarget) -> None:
    message_id = target.submit("bob@defer.test", "bob@other.test")
    assert run(["queue", "hold", message_id, "--domain", "Other.test."]) == 0
    assert target.states(message_id) == {"defer.test": State.DEFERRED, "other.test": State.HELD}


def test_of_a_message_what_is_over_is_left_alone(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    message_id = target.submit("bob@defer.test", "bob@good.test")
    assert run(["queue", "delete", message_id]) == 0
    assert "good.test: SENT, there is nothing left to delete" in said(capsys)
    assert target.states(message_id) == {"defer.test": State.CANCELLED, "good.test": State.SENT}
    assert run(["queue", "delete", message_id, "--domain", "good.test"]) == 1


def test_what_is_held_is_not_tried_and_the_way_is_told(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    message_id = target.submit("bob@defer.test")
    assert run(["queue", "hold", message_id]) == 0
    assert run(["queue", "retry", message_id]) == 1
    assert "queue release" in said(capsys)


@pytest.mark.parametrize("arguments", [(), ("--domain", "good.test")])
def test_a_message_or_domain_that_is_not_there_is_1(
    target: MemoryTarget, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    message_id = target.submit("bob@defer.test") if arguments else NOBODY
    assert run(["queue", "hold", message_id, *arguments]) == 1
    (line,) = said(capsys).splitlines()
    assert "it goes to defer.test" in line if arguments else "knows no message" in line


def lease(target: MemoryTarget, message_id: str, seconds: float) -> None:
    record = target.deliveries(message_id)["defer.test"]
    held = Lease(owner="w", until=target.relay.clock.now() + timedelta(seconds=seconds))
    target.relay.ledger._put_delivery(record.model_copy(update={"lease": held}))


def test_what_a_worker_has_is_told_and_waited_for_if_wanted(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = target.submit("bob@defer.test")
    lease(target, message_id, 60)
    assert run(["queue", "hold", message_id]) == 1
    assert "a worker has it, at the latest until" in said(capsys)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:  # the worker is done
            (record,) = target.relay.ledger.all_deliveries()
            target.relay.ledger._put_delivery(record.model_copy(update={"lease": None}))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert run(["queue", "hold", message_id, "--wait", "5"]) == 0
    assert pauses == [2.0, 2.0, 1.0]
    assert target.states(message_id) == {"defer.test": State.HELD}


def test_in_bulk_what_matches_is_meant_and_nothing_else(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = [target.submit("bob@defer.test", "bob@other.test") for _ in range(3)]
    assert run(["queue", "hold", "--domain", "defer.test", "--yes"]) == 0
    assert said(capsys) == "3 deliveries: 3 held\n"
    for message_id in mine:
        assert target.states(message_id) == {"defer.test": State.HELD, "other.test": State.DEFERRED}
    assert run(["queue", "release", "--reason", "operator_hold", "--limit", "2", "--yes"]) == 0
    assert said(capsys) == (
        "2 deliveries: 2 released\n... and more match; run it again for them, or raise --limit\n"
    )
    assert run(["queue", "delete", "--status", "held", "--yes"]) == 0
    assert sum(State.CANCELLED in target.states(message_id).values() for message_id in mine) == 1


def test_a_tenants_mail_is_meant_by_its_name(target: MemoryTarget) -> None:
    message_ids = [target.submit("bob@defer.test") for _ in range(2)]
    record = target.deliveries(message_ids[0])["defer.test"]
    target.relay.ledger._put_delivery(record.model_copy(update={"tenant": "acme"}))
    assert run(["queue", "hold", "--tenant", "acme", "--yes"]) == 0
    assert [target.states(message_id)["defer.test"] for message_id in message_ids] == ["HELD", "DEFERRED"]


def test_a_second_retry_takes_what_the_first_one_left(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    message_ids = [target.submit("bob@defer.test") for _ in range(3)]
    now = target.relay.clock.now()
    for message_id in message_ids[:2]:  # as the first run would have made them, by the same clock
        record = target.deliveries(message_id)["defer.test"]
        due = now - timedelta(days=366_000)
        target.relay.ledger._put_delivery(record.model_copy(update={"next_attempt_at": due}))
    assert run(["queue", "retry", "--domain", "defer.test", "--yes"]) == 0
    assert said(capsys) == "1 delivery: 1 due now\n"


def test_nothing_that_matches_is_no_failure(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["queue", "release", "--status", "held"]) == 0
    assert said(capsys) == "0 deliveries: 0 released\n"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_in_bulk_nothing_is_done_unasked(
    target: MemoryTarget, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    message_id = target.submit("bob@defer.test")
    assert run(["queue", "delete", "--domain", "defer.test", *options]) == 2
    assert said(capsys) == "empathctl: this would delete 1 delivery; nothing was done: add --yes\n"
    assert target.states(message_id) == {"defer.test": State.DEFERRED}


@pytest.mark.parametrize(("answer", "code", "state"), [("y\n", 0, State.HELD), ("n\n", 1, State.DEFERRED)])
def test_at_a_terminal_somebody_is_asked(
    target: MemoryTarget, answer: str, code: int, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    message_id = target.submit("bob@defer.test")
    assert run(["queue", "hold", "--domain", "defer.test"]) == code
    assert target.states(message_id) == {"defer.test": state}


def test_trouble_with_one_is_told_and_keeps_no_other_waiting(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    message_ids = [target.submit("bob@defer.test") for _ in range(3)]
    target.faults.fail("ledger.operate", matching=lambda record, **_: record.message_id == message_ids[1])
    assert run(["queue", "hold", "--domain", "defer.test", "--yes"]) == 1
    text = said(capsys)
    assert "3 deliveries: 2 held; 1 failed: run it again" in text
    assert message_ids[1] in text
    assert run(["queue", "hold", "--domain", "defer.test", "--yes"]) == 0
    assert all(target.states(message_id)["defer.test"] is State.HELD for message_id in message_ids)


def test_the_document_is_what_was_published(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    message_id = target.submit("bob@defer.test")
    assert run(["queue", "hold", message_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "operation": "hold",
        "counts": {"done": 1, "unchanged": 0, "refused": 0, "busy": 0, "missing": 0, "failed": 0},
        "has_more": False,
        "deliveries": [
            {
                "message_id": message_id,
                "delivery": "delivery#defer.test",
                "result": "done",
                "before": "DEFERRED",
                "after": "HELD",
                "busy_until": None,
                "report": False,
                "problem": None,
            }
        ],
    }
    lease(target, message_id, 60)
    assert run(["queue", "release", "--status", "held", "--yes", "--json"]) == 1
    (delivery,) = json.loads(capsys.readouterr().out)["deliveries"]
    assert (delivery["result"], delivery["busy_until"] is None) == ("busy", False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hold"], "a message id is needed"),
        (["hold", "nonsense"], "is no message id"),
        (["hold", NOBODY, "--status", "deferred"], "only --domain"),
        (["hold", NOBODY, "--tenant", "acme"], "only --domain"),
        (["hold", "--status", "held"], "this is for what is deferred"),
        (["release", "--status", "deferred"], "this is for what is held"),
        (["retry", "--status", "sent"], "is not listed"),
        (["delete", "--reason", "whim"], "is no reason"),
        (["release", NOBODY, "--report"], "--report"),
        (["hold", NOBODY, "--wait", "-1"], "--wait"),
    ],
)
def test_a_wrong_command_line_is_2_and_says_why(
    target: MemoryTarget, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["queue", *arguments]) == 2
    assert words in said(capsys)


def test_a_listing_shows_what_matches(target: MemoryTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    from empath.control import queue_reading

    monkeypatch.setattr(queue_reading, "read_depths", lambda _: [])
    shown: list[Any] = []
    monkeypatch.setattr(queue_commands, "print_json", shown.append)
    target.submit("bob@defer.test", "bob@other.test")
    assert run(["queue", "list", "--domain", "other.test", "--reason", "next_hop_reply", "--json"]) == 0
    assert run(["queue", "list", "--tenant", "acme", "--json"]) == 0
    assert [[row["delivery"] for row in each["deliveries"]] for each in shown] == [
        ["delivery#other.test"],
        [],
    ]
