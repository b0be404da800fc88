"""The clock function serves everybody: what is in trouble keeps nothing else waiting."""

from __future__ import annotations

import pytest

from empath.domain.delivery_state import State
from empath.domain.errors import LedgerTrouble
from empath.domain.outcome import Deferred
from empath.domain.reply import Reply
from empath.pipeline.jobs import AcceptedJob
from empath.ports import QueueName
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

LATER = Deferred(Reply.heard(451, "4.7.1 later"))
MESSAGES = 20


def plenty() -> float:
    return 60.0


async def a_relay_that_waits() -> MemoryRelay:
    """Some messages, all deferred once and waiting in the ledger for the clock, in several shards."""
    dialer = ScriptedDialer()
    dialer.host("d.test").outcomes["bob@d.test"] = [LATER] * MESSAGES
    relay = MemoryRelay(dialer=dialer)
    await relay.control.set_policy("d.test", {"retry": {"first_delay": 3600, "max_delay": 3600, "jitter": 0}})
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
