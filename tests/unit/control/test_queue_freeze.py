"""`empathctl queue freeze` and `unfreeze`: the flag, its audit lines, and waking what it put off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from empath.control import queue_commands
from empath.control.__main__ import run
from empath.domain.errors import LedgerTrouble
from empath.pipeline.operating import Operations
from empath.ports import QueueName
from empath.testing.faults import Faults
from empath.testing.memory_policies import MemoryPolicies
from empath.testing.relay import MemoryRelay
from tests.unit.control.audited import AuditedTarget


@dataclass
class MemoryTarget(AuditedTarget):
    relay: MemoryRelay = field(default_factory=MemoryRelay)
    faults: Faults = field(default_factory=Faults)

    @asynccontextmanager
    async def policies(self) -> AsyncIterator[MemoryPolicies]:
        yield MemoryPolicies(self.relay.control)

    @asynccontextmanager
    async def operations(self) -> AsyncIterator[Operations]:
        ledger = self.faults.wrap("ledger", self.relay.ledger, LedgerTrouble)
        yield Operations(self.relay.queue, ledger, self.relay.clock, self.relay.ids, "ann")


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    target = MemoryTarget()
    monkeypatch.setattr(queue_commands, "find_target", lambda _: target)
    return target


def put_off(target: MemoryTarget) -> str:
    """A message that a freeze put off."""

    async def submit() -> str:
        message_id = await target.relay.submit("ann@a.test", ["bob@b.test"])
        await target.relay.work(QueueName.ACCEPTED)
        while not target.relay.ledger.all_deliveries()[-1].next_attempt_at:
            await target.relay.work(QueueName.DELIVERY)
            target.relay.clock.advance(60)
        return message_id

    return asyncio.run(submit())


def test_a_freeze_is_a_policy_with_a_line(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["queue", "freeze", "B.test"]) == 0
    assert capsys.readouterr().out == "mail to b.test is not tried any more; in force within 30 seconds\n"
    assert target.relay.control.items["b.test"] == {"frozen": True}
    message_id = put_off(target)
    assert run(["queue", "unfreeze", "b.test"]) == 0
    assert capsys.readouterr().out == (
        "mail to b.test is tried again; in force within 30 seconds\n1 delivery: 1 due in 35 seconds\n"
    )
    assert "b.test" not in target.relay.control.items
    [record] = asyncio.run(target.relay.ledger.deliveries(message_id))
    assert record.next_attempt_at == target.relay.clock.now() + timedelta(seconds=35)
    assert [line[0] for line in target.results()] == ["queue freeze"] * 2 + ["queue unfreeze"] * 2
    done = [line for line in target.lines() if line.result == "done"]
    assert [(line.before, line.after) for line in done] == [
        (None, '{"frozen": true}'),
        ('{"frozen": true}', None),
    ]


def test_the_same_as_json(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["queue", "freeze", "b.test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"frozen": "b.test", "policy": {"frozen": True}}
    put_off(target)
    assert run(["queue", "unfreeze", "b.test", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["unfrozen"], document["policy"]) == ("b.test", None)
    assert document["woken"]["counts"]["done"] == 1


def test_what_cannot_be_woken_is_told(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    run(["queue", "freeze", "b.test"])
    put_off(target)
    target.faults.fail("ledger.operate")
    assert run(["queue", "unfreeze", "b.test"]) == 1
    assert "1 failed" in capsys.readouterr().out
    assert "b.test" not in target.relay.control.items


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["freeze", "tenant:acme"], 2, "is a tenant"),
        (["freeze", "no domain"], 2, "is no destination"),
        (["unfreeze", "b.test"], 1, "is not frozen"),
        (["freeze"], 2, "DOMAIN"),
    ],
)
def test_what_cannot_be_frozen_or_lifted_is_told(
    target: MemoryTarget, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["queue", *arguments]) == code
    assert words in capsys.readouterr().err
