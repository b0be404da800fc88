"""Rates over the real stages, with a clock held in the hand: limits that are never exceeded, lines by
priority, nothing polled, nothing counted as an attempt that was none."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from empath.domain.delivery_state import State
from empath.domain.line import AHEAD, Ask, Book
from empath.domain.reason import Reason
from empath.domain.slots import Pace, to_micros
from empath.pipeline.followups import EARLY, outgoing
from empath.pipeline.jobs import DeliveryJob
from empath.ports import QueueName
from empath.testing.clock import START, ManualClock
from empath.testing.faults import AFTER
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.relay import MemoryRelay
from empath.testing.zones import Node
from tests.scenarios.fleet import POLL, Fleet, TimedDialer
from tests.scenarios.gated import LOCAL, S, all_final, deliveries, gated_relay, most_in_any, policy, submit


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def dialer(clock: ManualClock) -> TimedDialer:
    return TimedDialer(clock)


@pytest.fixture
def relay(clock: ManualClock, dialer: TimedDialer) -> MemoryRelay:
    return gated_relay(clock, dialer)


@pytest.mark.parametrize(("burst", "shards"), [(1, 1), (10, 1), (8, 4)])
async def test_a_rate_is_never_exceeded_and_made_full_use_of(
    relay: MemoryRelay, dialer: TimedDialer, burst: int, shards: int
) -> None:
    policy(relay, "b.test", rate={"limit": "60/min", "burst": burst, "shards": shards})
    await submit(relay, 500)
    fleet = Fleet(relay)
    await fleet.run(all_final(relay))
    times = dialer.tried["b.test"]
    assert len(times) == 500
    for seconds in (1, 2, 10, 60, 300):
        assert most_in_any(times, seconds * S) <= seconds + burst
    ideal = 500 - burst
    # Shards fill unevenly: chance picks one for every batch.
    slack = 1.05 if shards == 1 else 1.5
    assert ideal * 0.95 <= (max(times) - START).total_seconds() <= ideal * slack
    assert {record.status for record in deliveries(relay)} == {State.SENT}
    assert {len(record.attempts) for record in deliveries(relay)} == {1}


async def test_a_rate_costs_two_updates_a_batch_and_polls_nobody(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    policy(relay, "b.test", rate="10/s")
    await submit(relay, 1000)
    relay.faults.calls.clear()
    fleet = Fleet(relay)
    await fleet.run(all_final(relay))
    times, calls = dialer.tried["b.test"], Counter(relay.faults.calls)
    assert (len(times), most_in_any(times, S)) == (1000, 10)
    assert 99.9 <= (max(times) - START).total_seconds() <= 105
    # A place for each batch, and a slot for those that come back together.
    assert relay.gates.updates.total() <= 0.25 * 1000
    # Asked once, sent away with a place, back in time: twice at most.
    assert max(fleet.received.values()) == 2
    assert calls["ledger.claim"] == calls["ledger.record"] == 1000
    assert calls["ledger.record_unclaimed"] == calls["ledger.mark_queued"] == 0


async def test_a_slow_next_hop_of_a_limited_site_gets_no_more_either(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    policy(relay, "b.test", rate="60/min", max_connections=4)
    dialer.takes["b.test"] = 7.0
    await submit(relay, 60)
    await Fleet(relay).run(all_final(relay))
    assert len(dialer.tried["b.test"]) == 60
    assert most_in_any(dialer.tried["b.test"], 10 * S) <= 11
    assert dialer.most_open["b.test"] <= 4


async def test_a_place_beyond_the_queues_horizon_is_waited_for_in_the_ledger_and_kept(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    policy(relay, "b.test", rate="1/min")
    await submit(relay, 30)
    fleet = Fleet(relay, workers=2)
    await fleet.run(lambda: relay.clock.now() - START > 30 * S)
    waiting = [record for record in deliveries(relay) if record.status is State.DEFERRED]
    assert len(waiting) >= 13
    assert {record.reason for record in waiting} == {Reason.SLOT_RESERVED}
    assert {(record.attempt, record.attempts) for record in waiting} == {(1, ())}
    places = {record.key: record.next_attempt_at for record in waiting}
    assert sorted(places.values()) == [START + minute * 60 * S for minute in range(30 - len(places), 30)]  # type: ignore[type-var]
    stood_in_line = relay.gates.updates["places"]
    await fleet.run(all_final(relay))
    assert (relay.gates.updates["places"], relay.gates.updates["slots"]) == (stood_in_line, 30)
    assert {record.key: record.attempts[0].started for record in deliveries(relay)}.items() >= places.items()
    assert most_in_any(dialer.tried["b.test"], 60 * S) == 1


async def test_domains_with_the_same_exchangers_share_the_rate(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    relay.control.items["*"] = {**LOCAL, "rate": "60/min"}
    for domain in ("one.test", "two.test", "three.test"):
        await submit(relay, 20, domain)
    await Fleet(relay).run(all_final(relay))
    times = dialer.tried["mx.host.test"]
    assert len(times) == 60
    assert most_in_any(times, 10 * S) <= 11
    assert {record.site for record in relay.ledger.all_deliveries()} == {"mx.host.test"}


async def test_a_queue_that_stood_still_does_not_let_the_missed_go_at_once(
    relay: MemoryRelay, dialer: TimedDialer, clock: ManualClock
) -> None:
    policy(relay, "b.test", rate="60/min")
    await submit(relay, 100)
    await Fleet(relay).run(lambda: clock.now() - START > 5 * S)
    clock.advance(3600)
    await Fleet(relay).run(all_final(relay))
    assert len(dialer.tried["b.test"]) == 100
    assert most_in_any(dialer.tried["b.test"], 10 * S) <= 12


async def test_what_gets_no_slot_before_it_expires_is_given_up_then_without_an_attempt(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    policy(relay, "b.test", rate="1/h", retry={"expiry": 7200})
    await submit(relay, 10)
    await Fleet(relay).run(all_final(relay))
    statuses = Counter(record.status for record in deliveries(relay))
    assert statuses[State.SENT] == len(dialer.tried["b.test"])
    assert 2 <= statuses[State.SENT] <= 3
    assert statuses[State.EXPIRED] == 10 - statuses[State.SENT]
    assert most_in_any(dialer.tried["b.test"], 3600 * S) == 1
    given_up = [record.attempts[-1] for record in deliveries(relay) if record.status is State.EXPIRED]
    assert all(timedelta(0) <= entry.started - (START + 7200 * S) < 60 * S for entry in given_up)
    assert {entry.reason for entry in given_up} == {Reason.SLOT_RESERVED}
    assert {entry.next_hop for entry in given_up} == {None}


async def test_an_update_whose_answer_is_lost_sends_nothing_twice_and_nothing_too_early(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    policy(relay, "b.test", rate="60/min")
    relay.faults.fail("gates.take_turns", when=AFTER, times=1)
    await submit(relay, 20)
    await Fleet(relay, workers=1).run(all_final(relay))
    assert len(dialer.tried["b.test"]) == 20
    # What went alone meanwhile is beyond the limit of all, by no more than the limit.
    assert most_in_any(dialer.tried["b.test"], 10 * S) <= 2 * 11


def test_whoever_comes_back_early_finds_the_slot_of_its_place_near_enough() -> None:
    place = START + 100.6 * S
    job = DeliveryJob(message_id="0" * 26, delivery="delivery#b.test", attempt=1, slot=place)
    for now in (START, START + 0.3 * S, START + 0.35 * S, START + 0.999 * S):
        early = place - now - outgoing(job, due=place, now=now).delay * S
        assert timedelta(seconds=EARLY) <= early <= timedelta(microseconds=min(AHEAD.values())) - S


HIGH_AND_BULK = ((QueueName.DELIVERY_HIGH,), (QueueName.DELIVERY_BULK,))


def sent_after(relay: MemoryRelay, message_ids: list[str]) -> list[float]:
    """How many seconds after it was received the attempt of each message began, in order."""
    return sorted(
        (record.attempts[0].started - record.received_at).total_seconds()
        for record in relay.ledger.all_deliveries()
        if record.message_id in message_ids and record.attempts
    )


async def test_a_password_reset_does_not_wait_behind_ten_thousand_of_bulk(
    relay: MemoryRelay, dialer: TimedDialer, clock: ManualClock
) -> None:
    policy(relay, "b.test", rate="10/s")
    await submit(relay, 600, priority="bulk")
    resets: list[str] = []

    async def users() -> None:
        await clock.sleep(1)
        # Behind those who come back one after the other, the line of the rest.
        rest = Ask("bulk", 10_000, Pace(interval=100_000), to_micros(clock.now()))
        assert (await relay.gates.take_turns("b.test", rest))[-1].at - clock.now() > 1000 * S
        for _ in range(50):
            await clock.sleep(0.83)
            resets.extend(await submit(relay, 1, priority="high"))

    asking = asyncio.create_task(users())
    await Fleet(relay, 4, HIGH_AND_BULK, polls=POLL).run(lambda: clock.now() - START > 50 * S)
    await asking
    waits = sent_after(relay, resets)
    assert len(waits) == 50
    # Until somebody looks, AHEAD of bulk, and the reset's own slot.
    assert max(waits) <= POLL + 2.5 + 0.1
    times = dialer.tried["b.test"]
    assert len(times) >= 500 * 0.95
    assert all(most_in_any(times, seconds * S) <= 10 * seconds + 1 for seconds in (1, 3, 10))


async def test_many_resets_go_one_after_the_other_whatever_else_waits(
    relay: MemoryRelay, dialer: TimedDialer, clock: ManualClock
) -> None:
    policy(relay, "b.test", rate="10/s")
    bulk = await submit(relay, 300, priority="bulk")

    async def users() -> list[str]:
        await clock.sleep(5)
        return await submit(relay, 100, priority="high")

    asking = asyncio.create_task(users())
    fleet = Fleet(relay, 4, HIGH_AND_BULK, polls=POLL)
    await fleet.run(lambda: asking.done() and all_final(relay)())
    # 100 of them take 10 s; what of bulk had its slot already goes with them.
    assert sent_after(relay, await asking)[-1] <= 10 + POLL + 2.5 + 0.1
    assert len(sent_after(relay, bulk)) == 300
    times = dialer.tried["b.test"]
    assert most_in_any(times, S) <= 10
    assert (max(times) - START).total_seconds() <= 40 * 1.05
    # Who gave way asked once more, and nobody again and again.
    assert relay.gates.updates.total() <= 1.2 * 400
    assert max(fleet.received.values()) <= 4


async def test_bulk_gives_way_to_normal_mail_too(
    relay: MemoryRelay, dialer: TimedDialer, clock: ManualClock
) -> None:
    policy(relay, "b.test", rate="10/s")
    await submit(relay, 300, priority="bulk")

    async def users() -> list[str]:
        await clock.sleep(5)
        return await submit(relay, 100)

    asking = asyncio.create_task(users())
    fleet = Fleet(relay, 4, ((QueueName.DELIVERY,), (QueueName.DELIVERY_BULK,)), polls=POLL)
    await fleet.run(lambda: asking.done() and all_final(relay)())
    # Some of bulk goes between them, as far as its slots are near enough.
    assert sent_after(relay, await asking)[-1] <= 1.7 * 10
    assert most_in_any(dialer.tried["b.test"], S) <= 10


async def test_a_rate_that_is_lowered_counts_for_what_waits_already(
    relay: MemoryRelay, dialer: TimedDialer, clock: ManualClock
) -> None:
    policy(relay, "b.test", rate="10/s")
    await submit(relay, 200)

    async def operator() -> None:
        await clock.sleep(5)
        policy(relay, "b.test", rate="1/s")

    lowering = asyncio.create_task(operator())
    await Fleet(relay, 4).run(all_final(relay))
    await lowering
    # What had its slot by then is sent within AHEAD of normal mail.
    later = [at for at in dialer.tried["b.test"] if at - START > 8 * S]
    assert len(later) > 100
    assert all(most_in_any(later, seconds * S) <= seconds + 1 for seconds in (1, 5, 30))


async def test_a_domain_that_moves_to_another_site_keeps_to_that_sites_limit(
    clock: ManualClock, dialer: TimedDialer
) -> None:
    zones = {"one.test": Node(mx=[(10, "mx.old.test")]), "*": Node(a=["127.0.0.1"])}
    relay = MemoryRelay(clock=clock, dialer=dialer, resolver=ZoneResolver(zones))
    relay.control.items["*"] = {**LOCAL, "rate": "10/s"}
    for domain in ("one.test", "c.test"):
        await submit(relay, 100, domain)

    async def operator() -> None:
        await clock.sleep(5)
        zones["one.test"] = Node(mx=[(10, "c.test")])

    moving = asyncio.create_task(operator())
    await Fleet(relay, 4).run(all_final(relay))
    await moving
    times = dialer.tried["c.test"]
    assert len(times) >= 120
    assert all(most_in_any(times, seconds * S) <= 10 * seconds + 1 for seconds in (1, 5, 30))


async def test_a_sender_hears_of_mail_that_a_limit_keeps_waiting(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    policy(relay, "b.test", rate="1/h", retry={"delay_report_after": 1})
    relay.gates.books["b.test", 0] = Book(tat=to_micros(START + 7200 * S))
    (message_id,) = await submit(relay, 1)
    relay.clock.advance(2)
    await relay.work(QueueName.DELIVERY)
    (record,) = deliveries(relay)
    assert (record.reports, record.reason) == ({"delayed-1": "owed"}, Reason.SLOT_RESERVED)
    while await relay.work(QueueName.DSN) or await relay.work(QueueName.ACCEPTED):
        pass
    (report,) = relay.reports_of(message_id)
    assert b"More mail is waiting for it" in relay.spool.objects[f"messages/{report}"]
    await Fleet(relay, workers=1).run(all_final(relay))
    assert len(dialer.tried["b.test"]) == 1
    assert len(relay.reports_of(message_id)) == 1
