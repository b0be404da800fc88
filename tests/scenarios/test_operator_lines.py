"""What operators do is in the audit trail: with the change for deliveries, around the change for the rest."""

from __future__ import annotations

import pytest

from empath.domain.audit import AuditRecord
from empath.domain.audit_chain import Block
from empath.domain.delivery_state import State
from empath.domain.errors import AuditTrouble, LedgerTrouble
from empath.domain.records import OperationName
from empath.pipeline.audit_check import check
from empath.pipeline.changes import StreamChange
from empath.pipeline.chronicle import Chronicle
from empath.pipeline.operating import Operations
from empath.pipeline.operator_log import MAX_WORDS, OperatorLog
from empath.ports import QueueName
from empath.testing.clock import START, ManualClock, SequentialIds
from empath.testing.faults import AFTER, BEFORE, Faults, WorkerDied
from empath.testing.memory_audit import MemoryAudit
from empath.testing.relay import MemoryRelay

OPERATOR = "arn:aws:sts::123456789012:assumed-role/Operators/ann"


def lines_of(audit: MemoryAudit) -> list[AuditRecord]:
    blocks = [Block.decode(content) for _, content in sorted(audit.objects.items())]
    return [AuditRecord.model_validate_json(line) for block in blocks for line in block.lines]


# Deliveries: from the ledger's stream.


async def told(relay: MemoryRelay, *, times: int = 1) -> list[AuditRecord]:
    audit = MemoryAudit()
    chronicle = Chronicle(relay.spool, relay.ledger, relay.clock, audit=audit)
    changes = [
        StreamChange(f"E{number}", relay.clock.now(), old, new)
        for number, (old, new) in enumerate(relay.ledger.take_stream_records())
    ]
    for _ in range(times):
        await chronicle.take(changes)
    assert (await check(audit)).is_sound
    return [line for line in lines_of(audit) if line.type == "OperatorAction"]


async def delivery_after(relay: MemoryRelay, *actions: OperationName) -> str:
    message_id = await relay.submit("ann@a.test", ["bob@b.test"])
    await relay.work(QueueName.ACCEPTED)
    operations = Operations(relay.queue, relay.ledger, relay.clock, relay.ids, OPERATOR)
    [record] = await relay.ledger.deliveries(message_id)
    for action in actions:
        await operations.operate(action, record.key)
    return message_id


async def test_every_operation_on_a_delivery_is_a_line_with_the_states_around_it() -> None:
    relay = MemoryRelay()
    message_id = await delivery_after(relay, "retry", "hold", "release", "retry", "delete")
    lines = await told(relay, times=2)
    assert [(line.action, line.before, line.after) for line in lines] == [
        ("queue retry", "QUEUED", "QUEUED"),
        ("queue hold", "QUEUED", "HELD"),
        ("queue release", "HELD", "DEFERRED"),
        ("queue retry", "DEFERRED", "DEFERRED"),
        ("queue delete", "DEFERRED", "CANCELLED"),
    ]
    for line in lines:
        assert (line.operator, line.message_id, line.result) == (OPERATOR, message_id, "done")
        assert (line.delivery, line.domain, line.at) == ("delivery#b.test", "b.test", relay.clock.now())


async def test_an_operation_that_changed_nothing_has_no_line_and_one_that_workers_follow_has_one() -> None:
    relay = MemoryRelay()
    await delivery_after(relay, "release", "hold", "hold", "retry", "release")
    while any([await relay.work(name) for name in QueueName]):
        pass
    assert relay.ledger.all_deliveries()[0].status is State.SENT
    assert [line.action for line in await told(relay)] == ["queue hold", "queue release"]


async def test_a_write_whose_answer_was_lost_has_its_line() -> None:
    relay = MemoryRelay()
    message_id = await delivery_after(relay)
    faults = Faults()
    faults.fail("ledger.operate", when=AFTER)
    ledger = faults.wrap("ledger", relay.ledger, LedgerTrouble)
    operations = Operations(relay.queue, ledger, relay.clock, relay.ids, OPERATOR)
    [record] = await relay.ledger.deliveries(message_id)
    with pytest.raises(LedgerTrouble):
        await operations.operate("hold", record.key)
    assert [line.action for line in await told(relay)] == ["queue hold"]


# The rest: around the change.


class Log:
    def __init__(self) -> None:
        self.audit, self.faults = MemoryAudit(), Faults()
        port = self.faults.wrap("audit", self.audit, AuditTrouble)
        self.log = OperatorLog(port, ManualClock(START), SequentialIds(), OPERATOR)
        self.changed = False

    async def change(self, error: BaseException | None = None) -> None:
        async with self.log.entry("suppress add", "ann@example.com") as entry:
            self.changed = True
            entry.before, entry.after = "not on the list", "on the list"
            if error is not None:
                raise error

    def told(self) -> list[tuple[str | None, str | None, str | None, str | None]]:
        return [(line.result, line.before, line.after, line.problem) for line in lines_of(self.audit)]


ASKED = ("asked", None, None, None)


async def test_a_change_is_asked_for_and_then_done() -> None:
    log = Log()
    await log.change()
    assert log.told() == [ASKED, ("done", "not on the list", "on the list", None)]
    asked, done = lines_of(log.audit)
    assert (asked.operator, asked.action, asked.target) == (OPERATOR, "suppress add", "ann@example.com")
    assert asked.message_id is None
    assert asked.id.split("/")[0] == done.id.split("/")[0]
    assert (await check(log.audit)).is_sound


async def test_lines_of_many_changes_are_in_their_order_and_the_trail_is_sound() -> None:
    log = Log()
    for _ in range(20):
        await log.change()
    assert (await check(log.audit)).is_sound
    results: dict[str, list[str | None]] = {}
    for line in lines_of(log.audit):
        results.setdefault(line.id.split("/")[0], []).append(line.result)
    assert len(results) == 20
    assert all(each == ["asked", "done"] for each in results.values())


async def test_what_fails_is_told_with_its_problem() -> None:
    log = Log()
    with pytest.raises(ValueError, match="no such thing"):
        await log.change(ValueError("no such thing" + "!" * 1000))
    asked, failed = log.told()
    assert (asked, failed[0]) == (ASKED, "failed")
    assert (failed[3] or "").startswith("no such thing!")
    assert len(failed[3] or "") == MAX_WORDS


@pytest.mark.parametrize("call", ["audit.put_new", "audit.head"])
async def test_without_a_line_nothing_is_changed(call: str) -> None:
    log = Log()
    log.faults.fail(call, when=BEFORE)
    with pytest.raises(AuditTrouble, match="nothing was done"):
        await log.change()
    assert not log.changed
    assert log.told() == []


async def test_a_death_after_the_change_leaves_the_line_that_it_was_asked_for() -> None:
    log = Log()
    with pytest.raises(WorkerDied):
        await log.change(WorkerDied())
    assert log.changed
    assert log.told() == [ASKED]


async def test_a_second_line_that_cannot_be_written_is_told() -> None:
    log = Log()
    log.faults.fail("audit.put_new", after_calls=1)
    with pytest.raises(AuditTrouble, match="it was done, but"):
        await log.change()
    assert log.told() == [ASKED]


async def test_the_first_problem_is_the_one_that_is_told() -> None:
    log = Log()
    log.faults.fail("audit.put_new", after_calls=1)
    with pytest.raises(ValueError, match="no such thing"):
        await log.change(ValueError("no such thing"))


async def test_a_deployment_without_a_trail_has_no_lines() -> None:
    log = Log()
    log.log = OperatorLog(None, ManualClock(START), SequentialIds(), OPERATOR)
    await log.change()
    assert log.changed
    assert log.told() == []
