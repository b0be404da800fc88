"""`empathctl audit verify`: 0 for a trail that is what was written, 1 and where it is not, 2 for no day."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from empath.control import audit_commands
from empath.control.__main__ import run
from empath.domain.audit import AuditRecord
from empath.domain.audit_chain import shard_of
from empath.domain.errors import AuditTrouble
from empath.pipeline.audit_trail import AuditTrail
from empath.testing.clock import START, ManualClock
from empath.testing.faults import Faults
from empath.testing.memory_audit import MemoryAudit


@dataclass
class MemoryTarget:
    store: MemoryAudit = field(default_factory=MemoryAudit)
    faults: Faults = field(default_factory=Faults)

    @asynccontextmanager
    async def audit(self) -> AsyncIterator[MemoryAudit]:
        yield self.faults.wrap("audit", self.store, AuditTrouble)


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    target = MemoryTarget()
    monkeypatch.setattr(audit_commands, "find_target", lambda _: target)
    trail = AuditTrail(target.store, ManualClock(START))
    for number in range(3):
        record = AuditRecord(id=f"{number}/0", type="DeliverySuccess", at=START, message_id="M")
        asyncio.run(trail.append([record, record.model_copy(update={"id": f"{number}/1"})]))
    return target


def test_a_trail_that_is_what_was_written_is_0(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", "verify"]) == 0
    assert capsys.readouterr().out == "3 objects with 6 lines: everything is what was written\n"


def test_a_line_that_was_changed_is_named_and_is_1(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    key = sorted(target.store.objects)[1]
    target.store.objects[key] = target.store.objects[key].replace(b'"1/1"', b'"1/7"')
    assert run(["audit", "verify", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["sound"] is False
    assert shown["faults"] == [
        {
            "shard": shard_of("M"),
            "key": key,
            "line": 3,
            "fault": "this line was changed, added or removed",
        }
    ]
    assert run(["audit", "verify", "--from", "2026-03-01", "--to", "2026-03-01"]) == 1
    assert f"{key}:3: this line was changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "days", [("--from", "yesterday"), ("--to", "2026-13-01"), ("--from", "2026-03-02", "--to", "2026-03-01")]
)
def test_what_is_no_day_or_no_range_is_2(
    target: MemoryTarget, days: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", "verify", *days]) == 2
    assert days[0] in capsys.readouterr().err


def test_trouble_is_1_and_one_line(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    target.faults.fail("audit.head")
    assert run(["audit", "verify"]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
