"""Reconciliation: everything that can come apart is found, and put right once, while the relay runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from empath.domain.delivery_state import State
from empath.domain.envelope import Priority
from empath.domain.retry import MAX_EXPIRY, RetryPolicy
from empath.pipeline.accept import Additions, trace_header_of
from empath.pipeline.discrepancies import OWED_FOR, Kind
from empath.pipeline.reconcile import Outcome, Tally
from empath.ports import QueueName
from empath.ports.inventory import Item, Unreadable, Upload
from empath.testing.clock import START
from empath.testing.faults import AFTER
from tests.unit.pipeline.reconciling import (
    DAY,
    DEFERRED,
    GOOD,
    HOUR,
    REJECTED,
    SENDER,
    chunks,
    is_deferred,
    lose_changes,
    lose_jobs,
    reconciled,
)

REPAIRED = Outcome.REPAIRED


async def test_a_relay_that_does_its_work_has_nothing_amiss() -> None:
    world, _ = reconciled()
    await world.relay.submit(SENDER, [GOOD, REJECTED, DEFERRED])
    assert await world.found() == []
    await world.relay.run(until=lambda: is_deferred(world.relay))
    assert await world.found() == []
    await world.relay.run()
    world.later(DAY)
    assert await world.found() == []


async def test_nothing_is_late_before_patience_ends() -> None:
    world, _ = reconciled()
    await world.relay.submit(SENDER, [GOOD])
    await world.relay.work(QueueName.ACCEPTED)
    world.later(HOUR - 1)
    assert await world.found() == []
    assert await world.found(patience=timedelta(minutes=30)) != []


# Raw objects.


async def test_an_object_that_the_ledger_does_not_know_stays_as_long_as_its_job_may_come() -> None:
    world, dialer = reconciled()
    message_id = await world.relay.submit(SENDER, [GOOD])
    for _ in range(2):
        world.later(OWED_FOR.total_seconds() / 2 - HOUR)
        assert await world.repair() == [(Kind.UNKNOWN_OBJECT, Outcome.LEFT)]
    assert f"messages/{message_id}" in world.relay.spool.objects
    await world.relay.run()
    assert len(dialer.messages) == 1


async def test_an_object_that_no_job_can_be_left_of_is_removed() -> None:
    world, _ = reconciled()
    message_id = await world.relay.submit(SENDER, [GOOD])
    lose_jobs(world.relay)
    world.later(OWED_FOR.total_seconds() + 1)
    assert await world.found() == [(Kind.UNKNOWN_OBJECT, message_id)]
    assert await world.repair() == [(Kind.UNKNOWN_OBJECT, REPAIRED)]
    assert world.relay.spool.objects == {}
    assert await world.repair() == []


def test_content_is_kept_for_longer_than_any_policy_and_queue_together_can_take() -> None:
    with pytest.raises(ValueError, match="less than or equal"):
        RetryPolicy(expiry=MAX_EXPIRY + 1)
    assert timedelta(seconds=MAX_EXPIRY) + timedelta(days=14) < OWED_FOR


async def test_an_object_of_a_settled_message_goes() -> None:
    world, _ = reconciled()
    message_id = await world.relay.submit(SENDER, [GOOD])
    await world.relay.run()
    world.later()
    await world.relay.spool.put(f"messages/{message_id}", chunks())
    assert await world.found() == [], "put back a moment ago: whoever did it may still be at work"
    world.later()
    assert await world.found() == [(Kind.SETTLED_OBJECT, message_id)]
    assert await world.repair() == [(Kind.SETTLED_OBJECT, REPAIRED)]
    assert world.relay.spool.objects == {}


async def test_an_object_with_a_foreign_name_is_told_and_stays() -> None:
    world, _ = reconciled()
    await world.relay.spool.put("messages/notes.txt", chunks())
    await world.relay.spool.put("health/probe", chunks())
    world.later(60 * DAY)
    assert await world.repair() == [(Kind.UNKNOWN_OBJECT, Outcome.LEFT)]
    assert set(world.relay.spool.objects) == {"messages/notes.txt", "health/probe"}


async def test_an_upload_is_given_up_when_no_session_can_still_be_at_it() -> None:
    world, _ = reconciled()
    message_id = world.relay.ids.new_id()
    world.inventory.unfinished.append(Upload(f"messages/{message_id}", "u1", START))
    world.later(HOUR)
    assert await world.repair() == []
    world.later(HOUR)
    assert await world.found() == [(Kind.UNFINISHED_UPLOAD, message_id)]
    assert await world.repair() == [(Kind.UNFINISHED_UPLOAD, REPAIRED)]
    assert world.inventory.unfinished == []


# Jobs.


@pytest.mark.parametrize(
    ("priority", "queue"),
    [("high", QueueName.DELIVERY_HIGH), ("normal", QueueName.DELIVERY), ("bulk", QueueName.DELIVERY_BULK)],
)
async def test_a_first_attempt_whose_job_is_lost_gets_another_on_its_own_queue(
    priority: Priority, queue: QueueName
) -> None:
    world, dialer = reconciled()
    additions = Additions(priority=priority, tenant="crm")
    message_id = await world.relay.submit(SENDER, [GOOD], additions=additions)
    await world.relay.work(QueueName.ACCEPTED)
    lose_jobs(world.relay)
    world.later()
    assert await world.found() == [(Kind.LOST_JOB, f"{message_id}/delivery#good.test")]
    assert await world.repair() == [(Kind.LOST_JOB, REPAIRED)]
    assert await world.repair() == [], "its job is on the queue now"
    (job,) = world.relay.queue.receive(queue)
    assert (job.trace_header, job.group) == (trace_header_of(message_id), "crm")
    await world.relay.run()
    assert len(dialer.messages) == 1
    assert await world.is_clean()


async def test_a_deferred_delivery_that_the_clock_does_not_wake_gets_its_job() -> None:
    world, dialer = reconciled()
    message_id = await world.relay.submit(SENDER, [DEFERRED])
    await world.relay.run(until=lambda: is_deferred(world.relay))
    lose_jobs(world.relay)
    record = await world.record(message_id)
    assert record.next_attempt_at is not None
    world.later()
    assert await world.found() == [(Kind.LOST_JOB, f"{message_id}/delivery#defer.test")]
    assert await world.repair() == [(Kind.LOST_JOB, REPAIRED)]
    assert len(world.relay.queue.pending(QueueName.RETRY)) == 1
    await world.relay.run()
    assert world.relay.states(message_id) == {DEFERRED: State.SENT}
    assert len(dialer.messages) == 1
    assert await world.is_clean()


async def test_a_deferred_delivery_without_a_next_attempt_gets_its_job() -> None:
    world, _ = reconciled()
    message_id = await world.relay.submit(SENDER, [DEFERRED])
    await world.relay.run(until=lambda: is_deferred(world.relay))
    lose_jobs(world.relay)
    record = await world.record(message_id)
    world.relay.ledger._put_delivery(record.model_copy(update={"next_attempt_at": None, "job_at": None}))
    world.later()
    assert await world.repair() == [(Kind.LOST_JOB, REPAIRED)]
    await world.relay.run()
    assert await world.is_clean()


async def test_a_second_job_beside_one_that_is_only_late_sends_nothing_twice() -> None:
    world, dialer = reconciled()
    await world.relay.submit(SENDER, [GOOD])
    await world.relay.work(QueueName.ACCEPTED)
    world.later()
    assert await world.repair() == [(Kind.LOST_JOB, REPAIRED)]
    assert len(world.relay.queue.pending(QueueName.DELIVERY)) == 2
    await world.relay.run()
    assert len(dialer.messages) == 1
    assert await world.is_clean()


async def test_who_is_at_work_or_held_needs_no_job() -> None:
    world, _ = reconciled()
    message_id = await world.relay.submit(SENDER, [GOOD])
    await world.relay.work(QueueName.ACCEPTED)
    lose_jobs(world.relay)
    record = await world.record(message_id)
    world.later()
    now = world.relay.clock.now()
    await world.relay.ledger.claim(
        record.key, attempt=1, owner="w", now=now, until=now + timedelta(minutes=10)
    )
    assert await world.found() == []
    world.later()
    assert await world.found() == [(Kind.LOST_JOB, str(record.key))]
    held = {GOOD: record.recipients[GOOD].model_copy(update={"state": State.HELD})}
    world.relay.ledger._put_delivery(record.model_copy(update={"recipients": held}))
    assert await world.found() == []


async def test_a_report_that_is_owed_gets_its_job_and_is_sent_once() -> None:
    world, _ = reconciled()
    message_id = await world.relay.submit(SENDER, [REJECTED])
    await world.relay.work(QueueName.ACCEPTED)
    await world.relay.work(QueueName.DELIVERY)
    assert lose_jobs(world.relay) == 1
    world.later()
    assert await world.found() == [(Kind.OWED_REPORT, f"{message_id}/delivery#reject.test")]
    for _ in range(2):
        assert await world.repair() == [(Kind.OWED_REPORT, REPAIRED)]
    await world.relay.run()
    assert len(world.relay.reports_of(message_id)) == 1
    assert await world.is_clean()


# Bookkeeping.


@pytest.mark.parametrize("recipients", [[GOOD], [GOOD, "ann@fine.test", "eve@well.test"]])
async def test_a_message_whose_end_the_journal_never_saw_is_settled(recipients: list[str]) -> None:
    world, _ = reconciled()
    message_id = await world.relay.submit(SENDER, recipients)
    await world.relay.work(QueueName.ACCEPTED)
    await world.relay.work(QueueName.DELIVERY)
    lose_changes(world.relay)
    world.later()
    assert await world.found() == [(Kind.NOT_SETTLED, message_id)]
    assert await world.repair() == [(Kind.NOT_SETTLED, REPAIRED)]
    assert await world.is_clean()
    assert await world.repair() == []


async def test_of_a_message_that_goes_on_the_ends_that_were_missed_are_counted() -> None:
    world, _ = reconciled()
    message_id = await world.relay.submit(SENDER, [GOOD, DEFERRED])
    await world.relay.run(until=lambda: bool(world.relay.queue.pending(QueueName.RETRY)))
    message = await world.relay.ledger.message(message_id)
    assert message is not None
    world.relay.ledger._put_message(message.model_copy(update={"settled": frozenset()}))
    lose_changes(world.relay)
    world.later(HOUR + 60)
    assert (Kind.NOT_SETTLED, message_id) in await world.found()
    assert (Kind.NOT_SETTLED, REPAIRED) in await world.repair()
    assert f"messages/{message_id}" in world.relay.spool.objects, "the other recipient needs it"
    await world.relay.run()
    assert await world.is_clean()


async def test_a_message_that_was_counted_and_not_closed_is_closed() -> None:
    world, _ = reconciled()
    message_id = await world.relay.submit(SENDER, [GOOD, "ann@fine.test"])
    await world.relay.run()
    message = await world.relay.ledger.message(message_id)
    assert message is not None
    world.relay.ledger._put_message(message.model_copy(update={"forget_at": None}))
    world.later()
    assert await world.repair() == [(Kind.NOT_SETTLED, REPAIRED)]
    assert await world.is_clean()
    # And when its deliveries are forgotten meanwhile.
    world.relay.ledger._put_message(message.model_copy(update={"forget_at": None}))
    world.relay.ledger._deliveries.pop(message_id)
    world.later()
    assert await world.repair() == [(Kind.NOT_SETTLED, REPAIRED)]
    assert await world.is_clean()


KEEP_ALL = {"content": {"keep": "all", "days": 7}}
KEEP_FAILED = {"content": {"keep": "failed"}}


@pytest.mark.parametrize(
    ("policy", "to", "is_kept"),
    [
        (KEEP_ALL, [GOOD], True),
        (KEEP_ALL, [GOOD, "ann@fine.test"], True),
        (KEEP_FAILED, [GOOD], False),
        (KEEP_FAILED, [GOOD, "ann@fine.test"], False),
        (KEEP_FAILED, [REJECTED], True),
        (KEEP_FAILED, [GOOD, REJECTED], True),
    ],
)
@pytest.mark.parametrize("counted", [False, True])
async def test_content_that_policy_keeps_is_kept_by_a_repair_too(
    policy: dict[str, Any], to: list[str], is_kept: bool, counted: bool
) -> None:
    world, _ = reconciled()
    await world.relay.control.set_tenant_policy("*", policy)
    message_id = await world.relay.submit(None, to)
    await world.relay.work(QueueName.ACCEPTED)
    await world.relay.work(QueueName.DELIVERY)
    lose_changes(world.relay)
    if counted:
        for record in await world.relay.ledger.deliveries(message_id):
            await world.relay.ledger.settle(record.key)
    world.later()
    assert await world.repair() == [(Kind.NOT_SETTLED, REPAIRED)]
    assert (f"messages/{message_id}" in world.relay.spool.kept) == is_kept
    assert await world.is_clean()


@pytest.mark.parametrize(("policy", "is_kept"), [(KEEP_ALL, True), (KEEP_FAILED, True), ({}, False)])
async def test_content_is_kept_if_nobody_knows_any_more_who_got_it(
    policy: dict[str, Any], is_kept: bool
) -> None:
    world, _ = reconciled()
    await world.relay.control.set_tenant_policy("*", policy)
    message_id = await world.relay.submit(None, [GOOD])
    await world.relay.work(QueueName.ACCEPTED)
    await world.relay.work(QueueName.DELIVERY)
    lose_changes(world.relay)
    world.relay.ledger._deliveries.pop(message_id)
    world.later(OWED_FOR.total_seconds())
    assert await world.repair() == [(Kind.INCOMPLETE_MESSAGE, REPAIRED)]
    assert (f"messages/{message_id}" in world.relay.spool.kept) == is_kept
    assert await world.is_clean()


async def test_a_message_without_its_deliveries_waits_for_its_job() -> None:
    world, dialer = reconciled()
    message_id = await world.relay.submit(SENDER, [GOOD, DEFERRED])
    await world.relay.work(QueueName.ACCEPTED)
    message = await world.relay.ledger.message(message_id)
    assert message is not None
    world.relay.ledger._deliveries[message_id].popitem()
    lose_jobs(world.relay, QueueName.ACCEPTED)
    world.later()
    kinds = await world.repair()
    assert (Kind.INCOMPLETE_MESSAGE, Outcome.LEFT) in kinds
    await world.relay.run()
    assert len(dialer.messages) == 1
    assert f"messages/{message_id}" in world.relay.spool.objects
    world.later(OWED_FOR.total_seconds())
    assert await world.repair() == [(Kind.INCOMPLETE_MESSAGE, REPAIRED)]
    assert await world.repair() == []
    assert world.relay.spool.objects == {}


async def test_a_message_without_deliveries_whose_job_comes_after_all_is_delivered() -> None:
    world, dialer = reconciled()
    message_id = await world.relay.submit(SENDER, [GOOD])
    (job,) = world.relay.queue.pending(QueueName.ACCEPTED)
    await world.relay.work(QueueName.ACCEPTED)
    lose_jobs(world.relay)
    world.relay.ledger._deliveries.pop(message_id)
    lose_changes(world.relay)
    world.later(13 * DAY)
    assert await world.repair() == [(Kind.INCOMPLETE_MESSAGE, Outcome.LEFT)]
    world.relay.queue.duplicate(QueueName.ACCEPTED, job.body)
    await world.relay.run()
    assert len(dialer.messages) == 1
    assert await world.is_clean()


async def test_what_only_a_person_can_put_right_is_told_and_left() -> None:
    world, _ = reconciled()
    message_id = await world.relay.submit(SENDER, [GOOD])
    await world.relay.work(QueueName.ACCEPTED)
    world.relay.ledger._messages.pop(message_id)
    broken = Unreadable("01ARZ3NDEKTSV4RRFFQ69G5FAV", "message", "an item of schema 7")
    world.inventory.unreadable.append(broken)
    await world.relay.spool.put(f"messages/{broken.message_id}", chunks())
    world.later(OWED_FOR.total_seconds() + 1)
    assert await world.repair() == [
        (Kind.STRAY_DELIVERY, Outcome.LEFT),
        (Kind.UNKNOWN_OBJECT, Outcome.LEFT),
        (Kind.UNKNOWN_OBJECT, Outcome.LEFT),
        (Kind.UNREADABLE_ITEM, Outcome.LEFT),
    ]
    assert len(world.relay.spool.objects) == 2


async def test_a_closed_message_keeps_its_object_while_a_delivery_is_open_against_all_rules() -> None:
    world, _ = reconciled()
    message_id = await world.relay.submit(SENDER, [GOOD])
    await world.relay.work(QueueName.ACCEPTED)
    await world.relay.ledger.close(message_id, forget_at=world.relay.clock.now())
    lose_jobs(world.relay)
    world.later()
    assert await world.repair() == [(Kind.LOST_JOB, REPAIRED)]
    assert f"messages/{message_id}" in world.relay.spool.objects


async def test_a_message_whose_items_are_read_far_apart_is_found_once() -> None:
    world, _ = reconciled()
    first, second = [await world.relay.submit(SENDER, [GOOD]) for _ in range(2)]
    await world.relay.work(QueueName.ACCEPTED)
    stories = [await world.inventory.story(message_id) for message_id in (first, second)]

    async def unclosed(segment: int, segments: int) -> AsyncIterator[Sequence[Item]]:
        for part in range(2) if segment == 0 else ():
            yield [story[part] for story in stories]

    world.inventory.unclosed = unclosed  # type: ignore[method-assign]
    world.later()
    assert [kind for kind, _ in await world.found()] == [Kind.LOST_JOB, Kind.LOST_JOB]


# What the journal gave up on.


async def test_changes_that_the_stream_still_has_are_given_to_the_journal_again() -> None:
    world, _ = reconciled()
    places = [world.lose_place(f"{number}") for number in range(12)]
    assert await world.found() == sorted((Kind.LOST_CHANGES, place.place) for place in places[:10])
    assert world.replayed == []
    assert await world.repair() == [(Kind.LOST_CHANGES, REPAIRED)] * 12
    assert world.replayed == places
    assert await world.repair() == []


async def test_changes_that_the_stream_has_forgotten_are_told_once() -> None:
    world, _ = reconciled()
    world.lost_changes.gone.add(world.lose_place("old").name)
    tally = Tally()
    await world.stage.run(tally.note, repair=True)
    assert tally.counts == {Kind.LOST_CHANGES: {Outcome.GONE: 1}}
    assert not tally.remains, "there is nothing left to be done"
    assert world.replayed == []
    assert await world.repair() == []


async def test_a_journal_that_fails_again_loses_nothing() -> None:
    world, _ = reconciled()
    world.lose_place("1")
    world.faults.fail("lost_changes.replay")
    assert await world.repair() == [(Kind.LOST_CHANGES, Outcome.FAILED)]
    world.faults.fail("lost_changes.forget", when=AFTER)
    assert await world.repair() == [(Kind.LOST_CHANGES, Outcome.FAILED)]
    assert await world.repair() == []


async def test_what_names_no_changes_is_left_to_a_person() -> None:
    world, _ = reconciled()
    world.lose_place("odd", is_readable=False)
    assert await world.repair() == [(Kind.LOST_CHANGES, Outcome.LEFT)]
    assert set(world.lost_changes.held) == {"odd"}
