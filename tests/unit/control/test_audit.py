"""`empathctl audit`: `verify` is 0 for a trail that is what was written, 1 and where it is not, 2 for no day;
`show` gives the lines of a message, and what it cannot read beside them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from empath.control import audit_commands
from empath.control.__main__ import run
from empath.domain.audit import AuditRecord
from empath.domain.audit_chain import shard_of
from empath.domain.classification import TroubleClass
from empath.domain.delivery_state import State
from empath.domain.errors import AuditTrouble
from empath.pipeline.audit_reading import AHEAD, objects_of_days
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


# `audit show`.

MESSAGE = "01KJMMA2G0" + "0" * 16
"""A ULID of START."""


@pytest.fixture
def told(target: MemoryTarget) -> MemoryTarget:
    """A trail over three days, in which MESSAGE has three lines and one of them comes twice."""
    clock = ManualClock(START)
    trail = AuditTrail(target.store, clock)
    received = AuditRecord(
        id="r/0", type="MessageReceived", at=START, message_id=MESSAGE, reverse_path="ann@a.test", size=7
    )
    failure = AuditRecord(
        id="f/0",
        type="DeliveryFailure",
        at=START + timedelta(seconds=5),
        message_id=MESSAGE,
        recipient="bob@b.test",
        state=State.FAILED,
        reply="550 5.1.1 no \x1b[31msuch user",
        trouble=TroubleClass.MAILBOX,
    )
    other = AuditRecord(id="o/0", type="DeliverySuccess", at=START, message_id="OTHER", reply=MESSAGE)
    asyncio.run(trail.append([received, other]))
    clock.advance(86_400)
    asyncio.run(trail.append([failure]))
    clock.advance(86_400)
    asyncio.run(trail.append([failure, failure.model_copy(update={"id": "f/1", "recipient": "joe@b.test"})]))
    return target


def test_the_lines_of_a_message_are_shown_once_and_in_order_and_of_no_other(
    told: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", "show", MESSAGE.lower()]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in shown] == ["MessageReceived", "DeliveryFailure", "DeliveryFailure"]
    assert shown[0].endswith("from ann@a.test, 7 octets")
    assert shown[1].endswith("bob@b.test FAILED, 550 5.1.1 no  [31msuch user, (mailbox)")
    assert run(["audit", "show", MESSAGE, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [line["id"] for line in document["lines"]] == ["r/0", "f/0", "f/1"]
    assert document["unreadable"] == []


def test_days_bound_what_is_read(told: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    second = (START + timedelta(days=1)).date().isoformat()
    assert run(["audit", "show", MESSAGE, "--from", second, "--to", second, "--json"]) == 0
    assert [line["id"] for line in json.loads(capsys.readouterr().out)["lines"]] == ["f/0"]
    assert run(["audit", "show", "--from", second, "--json"]) == 0
    assert [line["id"] for line in json.loads(capsys.readouterr().out)["lines"]] == ["f/0", "f/1"]


def test_a_message_that_the_trail_does_not_know_is_1_and_too_little_is_2(
    told: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", "show", "01KJMMA2G0" + "1" * 16]) == 1
    assert "no lines" in capsys.readouterr().out
    assert run(["audit", "show"]) == 2
    assert "--from" in capsys.readouterr().err
    assert run(["audit", "show", "nonsense"]) == 2


def test_lines_of_another_version_and_what_is_no_block_are_told_and_hide_nothing(
    told: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    class OfTheFuture(AuditRecord):
        def line(self) -> str:
            return super().line().replace('"v":1', '"v":2').replace("}", ',"more":"words"}')

    class Wider(AuditRecord):
        def line(self) -> str:
            return super().line().replace("}", ',"added":"later"}')

    trail = AuditTrail(told.store, ManualClock(START))
    about = {"at": START, "message_id": MESSAGE}
    asyncio.run(
        trail.append(
            [
                OfTheFuture(id="x/0", type="DeliverySuccess", **about),
                Wider(id="w/0", type="DeliverySuccess", **about),
            ]
        )
    )
    # What the trail proves does not hang on what this release can read.
    assert run(["audit", "verify"]) == 0
    told.store.objects[f"audit/{START:%Y/%m/%d}/00/000000009999.jsonl"] = b'{"v":7}\n'
    capsys.readouterr()
    assert run(["audit", "show", MESSAGE, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert {line["id"] for line in document["lines"]} == {"r/0", "w/0", "f/0", "f/1"}
    assert next(line for line in document["lines"] if line["id"] == "w/0")["added"] == "later"
    version, block = sorted(document["unreadable"], key=len, reverse=True)
    assert "a line of version 2 where this release reads 1" in version
    assert '"more":"words"' in version
    assert "a block of version 7 where this release reads 1" in block


async def test_objects_come_in_order_with_some_on_their_way_and_never_more() -> None:
    class Slow(MemoryAudit):
        under_way = most = 0

        async def get(self, key: str) -> bytes | None:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            # The later ones answer first.
            for _ in range(100 - int(key[-8:-6])):
                await asyncio.sleep(0)
            self.under_way -= 1
            return key.encode()

    store = Slow()
    keys = [f"audit/2026/03/01/00/{number:012d}.jsonl" for number in range(60)]
    store.objects = dict.fromkeys(keys, b"")
    found = [(key, content) async for key, content in objects_of_days(store, None, None)]
    assert found == [(key, key.encode()) for key in keys]
    assert 1 < store.most <= AHEAD
