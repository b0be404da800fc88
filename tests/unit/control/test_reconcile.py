"""`empathctl reconcile`: what is amiss is told and counted; 0 when nothing of it remains, else 1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from empath.control import reconcile_commands
from empath.control.__main__ import run
from empath.control.queue_reading import Depth
from empath.domain.audit_chain import Block
from empath.domain.errors import AuditTrouble
from empath.pipeline.discrepancies import Kind
from empath.pipeline.operator_log import OperatorLog
from empath.pipeline.reconcile import Reconciliation
from empath.ports import QueueName
from empath.ports.inventory import Unreadable
from empath.testing.memory_audit import MemoryAudit
from tests.unit.pipeline.reconciling import GOOD, SENDER, Reconciled, lose_jobs, reconciled


@pytest.fixture
def audit() -> MemoryAudit:
    return MemoryAudit()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, audit: MemoryAudit) -> Reconciled:
    """Three messages whose delivery jobs are lost, two hours ago."""
    world, _ = reconciled()

    async def prepare() -> None:
        for _ in range(3):
            await world.relay.submit(SENDER, [GOOD])
        await world.relay.work(QueueName.ACCEPTED)
        lose_jobs(world.relay)
        world.later()

    asyncio.run(prepare())

    @asynccontextmanager
    async def reconciliation(target: object) -> AsyncIterator[Reconciliation]:
        yield world.stage

    class Target:
        @asynccontextmanager
        async def operator_log(self) -> AsyncIterator[OperatorLog]:
            port = world.faults.wrap("audit", audit, AuditTrouble)
            yield OperatorLog(port, world.relay.clock, world.relay.ids, "arn:aws:iam::1:user/ann")

    monkeypatch.setattr(reconcile_commands, "find_target", lambda _: Target())
    monkeypatch.setattr(reconcile_commands, "reconciliation", reconciliation)
    monkeypatch.setattr(
        reconcile_commands, "read_depths", lambda _: [Depth(QueueName.ACCEPTED, False, 1, 2, 3)]
    )
    return world


def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_findings_are_told_and_remain_until_they_are_put_right(
    world: Reconciled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["reconcile"]) == 1
    told = capsys.readouterr().out
    assert "open deliveries without a job: 3" in told
    assert "/delivery#good.test  since 2026-03-01 12:00  QUEUED, attempt 1 should have begun" in told
    assert "jobs on the queues, by SQS's estimate: accepted 6" in told
    assert "findings 3; --repair puts right what can be" in told
    assert not world.relay.queue.pending(QueueName.DELIVERY)

    assert run(["reconcile", "--repair"]) == 0
    assert "findings 3, put right 3" in capsys.readouterr().out
    assert run(["reconcile"]) == 0
    assert "ledger 6, raw objects 3, uploads 0; nothing amiss" in capsys.readouterr().out


def test_the_document_has_every_kind_and_the_first_of_each(
    world: Reconciled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["reconcile", "--json", "--show", "2", "--older-than", "30"]) == 1
    document = shown(capsys)
    assert (document["repair"], document["clean"], document["older_than"]) == (False, False, 1800)
    assert document["checked"] == {"items": 6, "objects": 3, "uploads": 0}
    assert [entry["kind"] for entry in document["findings"]] == [kind.value for kind in Kind]
    by_kind = {entry["kind"]: entry for entry in document["findings"]}
    lost = by_kind["lost_job"]
    assert (lost["found"], lost["repaired"], lost["left"], lost["failed"]) == (3, 0, 0, 0)
    assert len(lost["first"]) == 2
    assert lost["first"][0] == {
        "message_id": world.relay.ledger.messages()[0].message_id,
        "delivery": "delivery#good.test",
        "since": "2026-03-01T12:00:00.000Z",
        "detail": "QUEUED, attempt 1 should have begun",
        "repairable": True,
        "outcome": "found",
        "error": None,
    }
    assert {entry["found"] for kind, entry in by_kind.items() if kind != "lost_job"} == {0}
    assert document["queues"][0]["delayed"] == 3

    assert run(["reconcile", "--json", "--repair"]) == 0
    assert shown(capsys)["findings"][3]["repaired"] == 3


def test_a_repair_is_told_to_the_audit_trail_before_and_after(world: Reconciled, audit: MemoryAudit) -> None:
    assert run(["reconcile"]) == 1
    assert audit.objects == {}
    assert run(["reconcile", "--repair"]) == 0
    blocks = [Block.decode(content) for _, content in sorted(audit.objects.items())]
    lines = [json.loads(line) for block in blocks for line in block.lines]
    assert [(line["action"], line["operator"], line["result"], line.get("after")) for line in lines] == [
        ("reconcile --repair", "arn:aws:iam::1:user/ann", "asked", None),
        ("reconcile --repair", "arn:aws:iam::1:user/ann", "done", "lost_job: 3 repaired"),
    ]


def test_without_a_line_in_the_audit_trail_nothing_is_repaired(
    world: Reconciled, capsys: pytest.CaptureFixture[str]
) -> None:
    world.faults.fail("audit.put_new")
    assert run(["reconcile", "--repair"]) == 1
    assert "nothing was done, for the audit trail cannot be written" in capsys.readouterr().err
    assert not world.relay.queue.pending(QueueName.DELIVERY)


def test_what_cannot_be_put_right_is_1_and_told_without_terminal_commands(
    world: Reconciled, capsys: pytest.CaptureFixture[str]
) -> None:
    world.inventory.unreadable.append(Unreadable("01ARZ3NDEKTSV4RRFFQ69G5FAV", "x\x1b[2J", "schema [9]"))
    assert run(["reconcile", "--repair"]) == 1
    told = capsys.readouterr().out
    assert "items that cannot be read: 1, left 1" in told
    assert "schema [9]" in told
    assert "\x1b" not in told


def test_a_repair_that_fails_is_1_and_the_others_are_done(
    world: Reconciled, capsys: pytest.CaptureFixture[str]
) -> None:
    world.faults.fail("queue.send")
    assert run(["reconcile", "--repair"]) == 1
    told = capsys.readouterr().out
    assert "open deliveries without a job: 3, put right 2, not possible now 1" in told
    assert "injected before queue.send" in told


def test_a_store_that_does_not_answer_is_one_line_and_1(
    world: Reconciled, capsys: pytest.CaptureFixture[str]
) -> None:
    world.faults.fail("inventory.objects")
    assert run(["reconcile"]) == 1
    assert capsys.readouterr().err == "empathctl: injected before inventory.objects\n"


def test_a_wrong_command_line_is_2(world: Reconciled) -> None:
    assert run(["reconcile", "--older-than", "0"]) == 2
    assert run(["reconcile", "--mend"]) == 2
