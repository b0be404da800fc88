"""The clock function serves everybody: what is in trouble keeps nothing else waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import count

import pytest

from empath.domain.delivery_state import State
from empath.domain.envelope import Priority
from empath.domain.errors import LedgerTrouble, QueueTrouble
from empath.domain.outcome import Deferred
from empath.domain.records import DeliveryRecord, MessageRecord, RecipientRecord
from empath.domain.reply import Reply
from empath.pipeline.jobs import AcceptedJob, DeliveryJob, decode
from empath.pipeline.retry import BATCH
from empath.ports import QueueName
from empath.ports.ledger import LISTING_SHARDS
from empath.testing.faults import AFTER
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

LATER = Deferred(Reply.heard(451, "4.7.1 later"))
MESSAGES = 20


def plenty() -> float:
    return 60.0


def short() -> Callable[[], float]:
    """The time of an invocation that is over once it was asked for a hundred times."""
    asked = count()
    return lambda: 60.0 if next(asked) < 100 else 1.0


async def a_relay_that_waits() -> MemoryRelay:
    """Some messages, all deferred once and waiting in the ledger for the clock, in several shards."""
    dialer = ScriptedDialer()
    dialer.host("d.test").outcomes["bob@d.test"] = [LATER] * MESSAGES
    relay = MemoryRelay(dialer=dialer)
    await relay.control.set_policy(
        "d.test",
        {
            "retry": {"first_delay": 3600, "max_delay": 3600, "jitter": 0},
            "circuit": {"enabled": False},
        },
    )
    for _ in range(MESSAGES):
        await relay.submit("ann@a.test", ["bob@d.test"])
    while await relay.work(QueueName.ACCEPTED) or await relay.work(QueueName.DELIVERY):
        pass
    relay.clock.advance(3000)
    return relay


async def test_trouble_with_one_shard_of_the_listing_leaves_the_others_served() -> None:
    relay = await a_relay_that_waits()
    relay.faults.fail("ledger.listed")
    with pytest.raises(LedgerTrouble):
        await relay.retry_clock.tick(plenty)
    sent = len(relay.queue.pending(QueueName.RETRY))
    assert 0 < sent < MESSAGES
    assert await relay.retry_clock.tick(plenty) == MESSAGES - sent
    assert len(relay.queue.pending(QueueName.RETRY)) == MESSAGES


async def test_a_delivery_that_cannot_be_queued_leaves_the_others_served() -> None:
    relay = await a_relay_that_waits()
    relay.faults.fail("ledger.mark_queued", error=ValueError("what nobody thought of"))
    assert await relay.retry_clock.tick(plenty) == MESSAGES - 1


async def test_a_dead_letter_that_cannot_be_brought_back_leaves_the_others_served() -> None:
    relay = MemoryRelay()
    await relay.submit("ann@a.test", ["bob@b.test"])
    await relay.submit("ann@a.test", ["bob@b.test"])
    for _ in range(6):
        for job in relay.queue.receive(QueueName.ACCEPTED):
            assert AcceptedJob.model_validate_json(job.body)
        relay.clock.advance(100)
    assert relay.queue.dead(QueueName.ACCEPTED)
    relay.faults.fail("control.policy", error=ValueError("what nobody thought of"))
    assert await relay.dead_letters.sweep(plenty) >= 1
    await relay.run()
    assert {record.status for record in relay.ledger.all_deliveries()} == {State.SENT}


MANY = 5000


async def a_ledger_full_of_due(many: int = MANY) -> MemoryRelay:
    """Deliveries that became due over the last hours, while nobody looked."""
    relay = MemoryRelay(dialer=ScriptedDialer())
    relay.clock.advance(86_400)
    now = relay.clock.now()
    priorities: tuple[Priority, ...] = ("normal", "bulk", "high")
    for number in range(many):
        message_id, due = relay.ids.new_id(), now - timedelta(seconds=many - number)
        bob = RecipientRecord(state=State.DEFERRED, reply=Reply.of(451, "4.7.1", "later"), attempt=1)
        record = DeliveryRecord(
            message_id=message_id,
            delivery="delivery#d.test",
            domain="d.test",
            siblings=1,
            received_at=due,
            expires=now + timedelta(days=5),
            priority=priorities[number % 3],
            recipients={"bob@d.test": bob},
            attempt=2,
            next_attempt_at=due,
        )
        message = MessageRecord(message_id=message_id, spool_key="k", size=1, received_at=due, deliveries=1)
        await relay.ledger.create(message, [record])
    return relay


async def test_thousands_of_due_deliveries_are_queued_in_one_tick_with_ten_jobs_a_request() -> None:
    relay = await a_ledger_full_of_due()
    relay.faults.calls.clear()
    assert await relay.retry_clock.tick(plenty) == MANY
    calls = Counter(relay.faults.calls)
    assert calls["ledger.mark_queued"] == MANY
    # Of each shard, page and queue the last request may not be full.
    assert MANY // BATCH <= calls["queue.send"] <= MANY // BATCH + LISTING_SHARDS * 3
    assert calls["ledger.listed"] == LISTING_SHARDS
    assert all(record.job_at for record in relay.ledger.all_deliveries())
    relay.faults.calls.clear()
    assert await relay.retry_clock.tick(plenty) == 0
    assert set(relay.faults.calls) == {"ledger.listed"}


async def test_a_tick_that_runs_out_of_time_has_begun_with_the_oldest_and_the_next_goes_on() -> None:
    relay = await a_ledger_full_of_due()
    ticks = 0
    while not all(record.job_at for record in relay.ledger.all_deliveries()):
        queued = await relay.retry_clock.tick(short())
        assert 0 < queued < MANY
        ticks += 1
        for shard in range(LISTING_SHARDS):
            page, _ = await relay.ledger.listed(State.DEFERRED, shard, limit=MANY)
            for priority in ("high", "normal", "bulk"):
                waiting = [row.job_at is None for row in page if row.priority == priority]
                # Up to the batches that were under way, in the order of their times.
                assert waiting == sorted(waiting)
    assert ticks > 2
    assert sum(len(relay.queue.pending(name)) for name in QueueName) == MANY


async def test_a_request_that_may_have_been_taken_is_made_again_and_nothing_is_missed() -> None:
    relay = await a_ledger_full_of_due(200)
    relay.faults.fail("queue.send", when=AFTER, times=3)
    with pytest.raises(QueueTrouble):
        await relay.retry_clock.tick(plenty)
    await relay.retry_clock.tick(plenty)
    assert all(record.job_at for record in relay.ledger.all_deliveries())
    jobs = [decode(DeliveryJob, job.body).key for name in QueueName for job in relay.queue.pending(name)]
    assert set(jobs) == {record.key for record in relay.ledger.all_deliveries()}
    assert len(jobs) > len(set(jobs))
