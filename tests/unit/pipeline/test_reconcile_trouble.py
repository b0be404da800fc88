"""Reconciliation beside a relay at work, stores that fail, and what is counted."""

from __future__ import annotations

import pytest

from empath.domain.errors import JournalTrouble, LedgerTrouble
from empath.pipeline.discrepancies import Kind
from empath.pipeline.reconcile import Outcome, Tally
from empath.ports import QueueName
from empath.testing.faults import AFTER, BEFORE, When
from empath.testing.memory_dialer import ScriptedDialer
from tests.unit.pipeline.reconciling import (
    GOOD,
    REJECTED,
    SENDER,
    Reconciled,
    chunks,
    lose_changes,
    lose_jobs,
    reconciled,
)

REPAIRED = Outcome.REPAIRED


# While the relay runs.


async def test_what_is_put_right_between_reading_and_looking_again_is_no_finding() -> None:
    world, dialer = reconciled()
    await world.relay.submit(SENDER, [GOOD])
    await world.relay.work(QueueName.ACCEPTED)
    world.later()
    story = world.inventory.story

    async def after_the_relay_has_run(message_id: str) -> object:
        await world.relay.run()
        return await story(message_id)

    world.inventory.story = after_the_relay_has_run  # type: ignore[method-assign,assignment]
    assert await world.repair() == []
    assert len(dialer.messages) == 1


async def test_a_delivery_that_is_claimed_during_its_repair_is_sent_once() -> None:
    world, dialer = reconciled()
    await world.relay.submit(SENDER, [GOOD])
    await world.relay.work(QueueName.ACCEPTED)
    world.later()
    send = world.relay.queue.send

    async def after_a_worker(queue: QueueName, jobs: object) -> None:
        await world.relay.work(QueueName.DELIVERY)
        await send(queue, jobs)  # type: ignore[arg-type]

    world.relay.queue.send = after_a_worker  # type: ignore[method-assign]
    assert await world.repair() == [(Kind.LOST_JOB, REPAIRED)]
    world.relay.queue.send = send  # type: ignore[method-assign]
    await world.relay.run()
    assert len(dialer.messages) == 1
    assert await world.is_clean()


# Trouble.


async def broken_in_every_way() -> tuple[Reconciled, ScriptedDialer, set[str]]:
    """A world with a lost job, an owed report, a message not settled and an object too many."""
    world, dialer = reconciled()
    settled = await world.relay.submit(SENDER, [GOOD])
    await world.relay.run()
    await world.relay.spool.put(f"messages/{settled}", chunks())
    rejected = await world.relay.submit(SENDER, [REJECTED])
    sent = await world.relay.submit(SENDER, [GOOD, "ann@fine.test"])
    await world.relay.work(QueueName.ACCEPTED)
    await world.relay.work(QueueName.DELIVERY)
    lost = await world.relay.submit(SENDER, [GOOD])
    await world.relay.work(QueueName.ACCEPTED)
    lose_jobs(world.relay)
    lose_changes(world.relay)
    world.lose_place("1")
    world.later()
    return world, dialer, {settled, rejected, sent, lost}


BROKEN = [Kind.LOST_CHANGES, Kind.LOST_JOB, Kind.NOT_SETTLED, Kind.OWED_REPORT, Kind.SETTLED_OBJECT]

CALLS = {
    "control.tenant_policy": 1,
    "lost_changes.receive": 2,
    "lost_changes.replay": 1,
    "lost_changes.forget": 1,
    "inventory.unclosed": 4,
    "inventory.objects": 1,
    "inventory.uploads": 1,
    "inventory.story": 4,
    "inventory.closed": 1,
    "inventory.object": 1,
    "queue.send": 2,
    "spool.delete": 2,
    "ledger.mark_queued": 1,
    "ledger.settle": 2,
    "ledger.close": 1,
}


async def test_the_calls_below_are_those_that_a_run_makes() -> None:
    world, _, _ = await broken_in_every_way()
    assert await world.repair() == [(kind, REPAIRED) for kind in BROKEN]
    calls = world.faults.calls
    assert {call: calls.count(call) for call in set(calls)} == CALLS


@pytest.mark.parametrize(
    ("call", "number"), [(call, number) for call, count in CALLS.items() for number in range(count)]
)
@pytest.mark.parametrize("when", [BEFORE, AFTER])
async def test_a_call_that_fails_anywhere_costs_another_run_and_nothing_else(
    call: str, number: int, when: When
) -> None:
    world, dialer, messages = await broken_in_every_way()
    world.faults.fail(call, when=when, after_calls=number)
    try:
        outcomes = {outcome for _, outcome in await world.repair()}
    except (LedgerTrouble, JournalTrouble):
        assert call.startswith("inventory.") or call == "lost_changes.receive", "what reads ends the run"
    else:
        is_empty_stream = when == AFTER and call in {"inventory.unclosed", "inventory.uploads"}
        assert outcomes == {REPAIRED, Outcome.FAILED} or is_empty_stream, "the others go on"
    outcomes = {outcome for _, outcome in await world.repair()}
    assert outcomes <= {REPAIRED}
    relay = world.relay
    await relay.run()
    world.later()
    assert await world.is_clean()
    reports = [report for message in messages for report in relay.reports_of(message)]
    assert len(reports) == 1
    copies = sorted(address for sent in dialer.messages for address in sent.recipients)
    assert copies == sorted([GOOD, GOOD, GOOD, "ann@fine.test", SENDER])


# Counting.


async def test_every_finding_is_counted_and_the_first_few_are_kept() -> None:
    world, _ = reconciled()
    for _ in range(7):
        await world.relay.submit(SENDER, [GOOD])
    await world.relay.work(QueueName.ACCEPTED)
    lose_jobs(world.relay)
    world.later()
    tally = Tally(keep=3)
    checked = await world.stage.run(tally.note)
    assert tally.counts[Kind.LOST_JOB][Outcome.FOUND] == 7
    assert len(tally.first[Kind.LOST_JOB]) == 3
    assert tally.remains
    assert (checked.items, checked.objects, checked.uploads) == (14, 7, 0)
    tally = Tally()
    await world.stage.run(tally.note, repair=True)
    assert not tally.remains
