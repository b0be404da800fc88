"""A site that takes long over each message, many messages for it, and other sites' mail beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from empath.domain.delivery_state import FINAL, State
from empath.domain.envelope import Priority
from empath.domain.records import DeliveryRecord
from empath.domain.trial import QUICK
from empath.pipeline.accept import Additions
from empath.ports import QueueName
from empath.testing.clock import START, ManualClock
from empath.testing.faults import AFTER, BEFORE, When
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.relay import MemoryRelay
from empath.testing.zones import Node
from tests.scenarios.fleet import LANE, Fleet, TimedDialer

S = timedelta(seconds=1)
LONG = 30.0
LANES = (LANE, (QueueName.DELIVERY_SLOW,))
SLOW, OTHER = "slow.test", "other.test"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def dialer(clock: ManualClock) -> TimedDialer:
    dialer = TimedDialer(clock)
    dialer.takes = {SLOW: LONG, OTHER: 0.3}
    return dialer


@pytest.fixture
def relay(clock: ManualClock, dialer: TimedDialer) -> MemoryRelay:
    return MemoryRelay(clock=clock, dialer=dialer, resolver=ZoneResolver({"*": Node(a=["127.0.0.1"])}))


async def submit(relay: MemoryRelay, count: int, domain: str, priority: Priority = "normal") -> list[str]:
    additions = Additions(priority=priority)
    found = [
        await relay.submit("ann@a.test", [f"user{number}@{domain}"], additions=additions)
        for number in range(count)
    ]
    while await relay.work(QueueName.ACCEPTED):
        pass
    return found


def deliveries(relay: MemoryRelay, domain: str) -> list[DeliveryRecord]:
    return [record for record in relay.ledger.all_deliveries() if record.domain == domain]


def all_sent(relay: MemoryRelay, *domains: str) -> bool:
    return all(record.status in FINAL for domain in domains for record in deliveries(relay, domain))


def waits(relay: MemoryRelay, domain: str) -> list[float]:
    """From the receipt of each message until its next hop had it, in order."""
    records = deliveries(relay, domain)
    return sorted(
        (record.attempts[-1].started - record.received_at).total_seconds()
        + (record.attempts[-1].duration or 0)
        for record in records
    )


async def steadily(relay: MemoryRelay, count: int, domain: str) -> None:
    """A message a second."""
    for _ in range(count):
        await submit(relay, 1, domain)
        await relay.clock.sleep(1)


@pytest.mark.parametrize("workers", [2, 8])
async def test_other_mail_does_not_wait_for_a_slow_site(
    relay: MemoryRelay, dialer: TimedDialer, workers: int
) -> None:
    await submit(relay, 200, SLOW)
    mail = asyncio.create_task(steadily(relay, 100, OTHER))
    fleet = Fleet(relay, workers, LANES, polls=0.2)
    await fleet.run(lambda: mail.done() and all_sent(relay, OTHER, SLOW))
    # Alone it takes 0.3 s and the wait for the next look into the queue. One worker is away for LONG.
    assert waits(relay, OTHER)[94] <= 1.0
    assert {record.status for record in deliveries(relay, SLOW)} == {State.SENT}
    assert {len(record.attempts) for record in deliveries(relay, SLOW)} == {1}
    assert len(dialer.tried[SLOW]) == 200


async def test_no_more_than_one_worker_of_the_usual_lane_finds_out(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    await submit(relay, 200, SLOW)
    await Fleet(relay, 8, LANES).run(lambda: relay.clock.now() - START >= QUICK - S)
    assert len(dialer.tried[SLOW]) == 1


async def test_nobody_is_received_again_and_again_for_want_of_room(relay: MemoryRelay) -> None:
    messages = await submit(relay, 300, SLOW)
    fleet = Fleet(relay, 2, LANES)
    await fleet.run(lambda: all_sent(relay, SLOW))
    # Once where it came, or twice: it may have waited for the trial. And once on the queue of slow sites.
    assert max(fleet.received[message] for message in messages) <= 4
    assert not any(relay.queue.dead(name) for name in QueueName)


async def test_high_mail_stays_where_no_bulk_mail_is(relay: MemoryRelay) -> None:
    await submit(relay, 50, SLOW, priority="high")
    await Fleet(relay, 2, ((QueueName.DELIVERY_HIGH,), *LANES)).run(lambda: all_sent(relay, SLOW))
    assert relay.metrics.counts["moved_to_slow"] == 0
    assert "trials.begin" not in relay.faults.calls


async def test_a_site_that_is_quick_again_has_the_usual_lane_again(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    await submit(relay, 100, SLOW)
    fleet = Fleet(relay, 2, LANES)
    await fleet.run(lambda: all_sent(relay, SLOW))
    dialer.takes[SLOW] = 0.3
    moved = relay.metrics.counts["moved_to_slow"]
    await fleet.run(lambda: relay.clock.now() - START >= 2 * timedelta(hours=1))
    await submit(relay, 100, SLOW)
    await fleet.run(lambda: all_sent(relay, SLOW))
    assert relay.metrics.counts["moved_to_slow"] == moved


@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize("call", ["trials.begin", "trials.end", "ledger.mark_queued", "queue.send"])
async def test_trouble_on_the_way_to_the_queue_of_slow_sites_loses_and_doubles_nothing(
    relay: MemoryRelay, dialer: TimedDialer, call: str, when: When
) -> None:
    await submit(relay, 60, SLOW)
    for after in (0, 3, 7):
        relay.faults.fail(call, when=when, after_calls=after)
    await Fleet(relay, 3, LANES).run(lambda: all_sent(relay, SLOW))
    assert {record.status for record in deliveries(relay, SLOW)} == {State.SENT}
    assert len(dialer.tried[SLOW]) == 60


async def test_no_attempt_begins_that_its_invocation_will_not_see_the_end_of(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    # An invocation has 300 s, 290 of them for attempts: of three times 120 s only two fit.
    dialer.takes[SLOW] = 120.0
    relay.control.items[SLOW] = {"allow_addresses": ["127.0.0.0/8"], "max_connections": 1}
    await submit(relay, 12, SLOW)
    await Fleet(relay, 1, LANES).run(lambda: all_sent(relay, SLOW))
    records = deliveries(relay, SLOW)
    assert {record.status for record in records} == {State.SENT}
    assert {len(record.attempts) for record in records} == {1}
    assert not any(attempt.ambiguous for record in records for attempt in record.attempts)
    assert spaced(dialer.tried[SLOW], 120 * S)


def spaced(times: Sequence[datetime], gap: timedelta) -> bool:
    return all(later - earlier >= gap for earlier, later in pairwise(sorted(times)))
