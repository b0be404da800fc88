"""Circuits and connections over the real stages, with a clock held in the hand: limits that are never
exceeded, a dead site that is let alone, nothing polled, nothing counted as an attempt that was none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from empath.domain.circuit import CLOSED, Circuit
from empath.domain.delivery_state import State
from empath.domain.errors import ControlTrouble, TransientRefusal
from empath.domain.line import Ask, Turn
from empath.domain.outcome import Deferred
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.ports import OutgoingJob, QueueName
from empath.testing.clock import START, ManualClock
from empath.testing.relay import MemoryRelay
from tests.scenarios.fleet import INVOCATION, LANE, Fleet, TimedDialer
from tests.scenarios.gated import S, all_final, deliveries, gated_relay, most_in_any, policy, submit

DEAD = TransientRefusal(Reply.of(451, "4.4.1", "Connection refused"), Reason.CONNECTION_FAILED)
STORE = (
    "take_turns",
    "troubled",
    "circuit",
    "change_circuit",
    "take_connection",
    "release_connection",
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def dialer(clock: ManualClock) -> TimedDialer:
    return TimedDialer(clock)


@pytest.fixture
def relay(clock: ManualClock, dialer: TimedDialer) -> MemoryRelay:
    return gated_relay(clock, dialer)


# Circuits.


async def test_a_dead_site_costs_a_worker_two_attempts_and_then_one_a_period(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    dialer.host("b.test").refusal = DEAD
    await submit(relay, 1000)
    await submit(relay, 50, "good.test")
    await Fleet(relay, workers=1).run(lambda: relay.clock.now() - START > 7200 * S)
    times = dialer.tried["b.test"]
    opened = relay.gates.known["b.test"].opened_at
    assert opened is not None
    assert len([at for at in times if at <= opened]) == 2
    later = [at for at in times if at > opened]
    assert most_in_any(later, 300 * S) == 1
    assert 10 <= len(later) <= 24
    assert len(dialer.tried["good.test"]) == 50
    assert max(dialer.tried["good.test"]) - START < 10 * S
    attempts = sum(len(record.attempts) for record in deliveries(relay))
    assert attempts == len(times)


@pytest.mark.parametrize("takes", [0.001, 30.0])
async def test_workers_that_meet_a_dead_site_at_the_same_moment_try_it_once_each(
    relay: MemoryRelay, dialer: TimedDialer, takes: float
) -> None:
    dialer.host("b.test").refusal = DEAD
    dialer.takes["b.test"] = takes
    await submit(relay, 400)
    await Fleet(relay).run(lambda: relay.clock.now() - START > 3600 * S)
    times = dialer.tried["b.test"]
    opened = relay.gates.known["b.test"].opened_at
    assert opened is not None
    assert len([at for at in times if at <= opened]) == 8
    assert most_in_any([at for at in times if at > opened], 300 * S) == 1


async def test_where_one_delivery_finds_out_for_all_a_dead_site_costs_as_many_as_open_its_circuit(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    """With the lane of slow sites (pipeline.slow_sites) workers know of each other's attempts."""
    dialer.host("b.test").refusal = DEAD
    dialer.takes["b.test"] = 0.001
    await submit(relay, 200)
    fleet = Fleet(relay, 8, (LANE, (QueueName.DELIVERY_SLOW,)), polls=0.5)
    await fleet.run(lambda: relay.clock.now() - START > 290 * S)
    assert len(dialer.tried["b.test"]) == 5


async def test_hosts_that_are_silent_for_minutes_open_the_circuit_too(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    dialer.host("b.test").refusal = DEAD
    # Five addresses of 30 s: failures come farther apart than the window is long.
    dialer.takes["b.test"] = 150.0
    await submit(relay, 100)
    await Fleet(relay, workers=1).run(lambda: relay.clock.now() - START > 3600 * S)
    times = dialer.tried["b.test"]
    assert len([at for at in times if at - START < 580 * S]) == 2
    assert most_in_any(times, 300 * S) == 2


async def test_a_site_that_defers_by_its_own_words_is_believed_when_policys_number_of_messages_met_it(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    busy = TransientRefusal(Reply.of(421, "4.3.2", "Not now"), Reason.NEXT_HOP_REPLY)
    dialer.host("b.test").refusal = busy
    await submit(relay, 100)
    await Fleet(relay, workers=1).run(lambda: relay.clock.now() - START > 290 * S)
    times = dialer.tried["b.test"]
    assert len(times) == 5
    # With a moment between them, for others to be heard.
    assert all(later - earlier >= S for earlier, later in pairwise(times))


async def test_a_site_that_works_is_served_by_all_of_a_batch_once_the_first_is_through(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    dialer.takes["b.test"] = 0.02
    await submit(relay, 100)
    await Fleet(relay, workers=1).run(lambda: len(dialer.tried.get("b.test", ())) == 100)
    # Ten batches of 20 ms each, and 20 ms for the very first message.
    assert max(dialer.tried["b.test"]) - START == 0.2 * S


async def test_as_many_as_policy_says_try_a_site_at_first(relay: MemoryRelay, dialer: TimedDialer) -> None:
    policy(relay, "b.test", circuit={"initial_connections": 3})
    dialer.takes["b.test"] = 1.0
    await submit(relay, 10)
    await Fleet(relay, workers=1).run(lambda: len(dialer.tried.get("b.test", ())) == 10)
    assert Counter(dialer.tried["b.test"]) == {START: 3, START + S: 7}


async def test_what_an_open_circuit_holds_back_is_no_attempt_and_is_told_when_to_ask(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    open_circuit = Circuit(open_until=START + 300 * S, openings=1, cause="451 refused")
    await relay.gates.change_circuit("b.test", lambda _: open_circuit)
    (message_id,) = await submit(relay, 1)
    await relay.work(QueueName.DELIVERY)
    (record,) = deliveries(relay)
    assert (record.status, record.attempt, record.attempts, record.lease) == (State.QUEUED, 1, (), None)
    again = relay.queue.next_visible_at()
    assert again is not None
    assert START + 300 * S <= again <= START + 451 * S
    await Fleet(relay, workers=2).run(all_final(relay))
    assert relay.states(message_id) == {"user0@b.test": State.SENT}
    assert len(dialer.tried["b.test"]) == 1
    assert relay.gates.known["b.test"] == CLOSED


async def test_each_time_it_waits_twice_as_far_through_queue_and_ledger(
    relay: MemoryRelay, clock: ManualClock
) -> None:
    policy(relay, "b.test", retry={"max_delay": 14_400})
    await submit(relay, 1)
    asked: list[datetime] = []

    def held_again() -> bool:
        # As circuits are whose probes fail: open whenever somebody asks.
        relay.gates.known["b.test"] = Circuit(open_until=clock.now() + 60 * S, openings=1)
        count = relay.metrics.counts["held_circuit_open"]
        if count > len(asked):
            asked.append(clock.now())
        return clock.now() - START > timedelta(days=2)

    await Fleet(relay, workers=1).run(held_again, within=timedelta(days=3))
    waits = [later - earlier for earlier, later in pairwise(asked)]
    assert waits[0] >= 60 * S
    doubling = [wait for wait in waits if wait < 14_400 * S]
    assert len(doubling) >= 6
    # Job and record keep whole seconds.
    assert all(later >= 2 * earlier - 2 * S for earlier, later in pairwise(doubling))
    (record,) = deliveries(relay)
    assert (record.attempt, record.attempts, record.reason) == (1, (), Reason.CIRCUIT_OPEN)


async def test_a_site_that_comes_back_is_found_out_by_one_and_served_for_all(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    hop = dialer.host("b.test")
    hop.refusal = DEAD
    await submit(relay, 200)
    fleet = Fleet(relay, workers=4)
    await fleet.run(lambda: relay.clock.now() - START > 200 * S)
    failed = len(dialer.tried["b.test"])
    assert failed == 4
    hop.refusal = None
    await fleet.run(all_final(relay))
    assert {record.status for record in deliveries(relay)} == {State.SENT}
    assert relay.gates.known["b.test"] == CLOSED
    assert len(dialer.tried["b.test"]) == 200 + failed


async def test_greylisting_opens_no_circuit(relay: MemoryRelay, dialer: TimedDialer) -> None:
    greylisted = Deferred(Reply.heard(450, "4.2.0 Greylisted, see you in 60 seconds"))
    for number in range(50):
        dialer.host("b.test").outcomes[f"user{number}@b.test"] = [greylisted]
    await submit(relay, 50)
    await Fleet(relay, workers=2).run(all_final(relay))
    assert {len(record.attempts) for record in deliveries(relay)} == {2}
    assert relay.gates.updates.total() == 0


async def test_a_message_expires_while_its_site_is_let_alone(relay: MemoryRelay, dialer: TimedDialer) -> None:
    policy(relay, "b.test", retry={"expiry": 1800})
    relay.gates.known["b.test"] = Circuit(
        open_until=START + timedelta(days=9), openings=1, cause="451 4.4.1 refused"
    )
    (message_id,) = await submit(relay, 1)
    await Fleet(relay, workers=1).run(all_final(relay))
    assert relay.states(message_id) == {"user0@b.test": State.EXPIRED}
    (record,) = deliveries(relay)
    assert timedelta(0) <= record.attempts[-1].started - (START + 1800 * S) < 60 * S
    assert "451 4.4.1 refused" in str(record.recipients["user0@b.test"].reply)
    assert "b.test" not in dialer.tried
    while await relay.work(QueueName.DSN) or await relay.work(QueueName.ACCEPTED):
        pass
    assert len(relay.reports_of(message_id)) == 1


async def test_a_probe_with_a_stale_job_leaves_the_probe_to_the_next(relay: MemoryRelay) -> None:
    await submit(relay, 1)
    (job,) = relay.queue.receive(QueueName.DELIVERY)
    await relay.queue.hide(QueueName.DELIVERY, job.receipt, 0)
    await relay.work(QueueName.DELIVERY)
    due = Circuit(open_until=START - S, openings=1)
    await relay.gates.change_circuit("b.test", lambda _: due)
    relay.delivery = replace(relay.delivery, gatekeeper=relay.gatekeeper())
    await relay.queue.send(QueueName.DELIVERY, [OutgoingJob(body=job.body)])
    updates = relay.gates.updates["circuit"]
    assert await relay.work(QueueName.DELIVERY)
    assert relay.gates.updates["circuit"] == updates + 2
    assert relay.gates.known["b.test"] == due


# Connections.


async def test_no_more_connections_than_allowed_and_one_write_for_many_messages(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    policy(relay, "b.test", max_connections=2)
    dialer.takes["b.test"] = 1.0
    await submit(relay, 100)
    await Fleet(relay, workers=1).run(all_final(relay))
    assert {record.status for record in deliveries(relay)} == {State.SENT}
    assert dialer.most_open["b.test"] == 2
    # Two for each of ten batches, and a few while the site was new.
    assert relay.gates.updates["take_connection"] <= 25
    assert relay.gates.connections == {}


@pytest.mark.parametrize("takes", [30.0, INVOCATION])
async def test_a_delivery_that_takes_all_of_its_invocation_has_its_connection_to_the_end(
    relay: MemoryRelay, dialer: TimedDialer, takes: float
) -> None:
    """A right is a lease to the end of the invocation and LEASE_MARGIN; no attempt goes on so long, also
    none that took the right over from another delivery."""
    policy(relay, "b.test", max_connections=2)
    dialer.takes["b.test"] = takes
    await submit(relay, 30)
    await Fleet(relay, workers=4).run(lambda: relay.clock.now() - START > 1200 * S)
    assert dialer.most_open["b.test"] == 2
    assert len(dialer.tried["b.test"]) >= 8
    assert (
        relay.gates.updates["take_connection"]
        == len(relay.gates.connections) + relay.gates.updates["release_connection"]
    )


async def test_over_all_workers_there_are_no_more_connections_than_allowed(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    policy(relay, "b.test", max_connections=3)
    dialer.takes["b.test"] = 2.0
    await submit(relay, 200)
    await Fleet(relay).run(all_final(relay))
    assert {record.status for record in deliveries(relay)} == {State.SENT}
    assert {len(record.attempts) for record in deliveries(relay)} == {1}
    assert dialer.most_open["b.test"] <= 3
    assert relay.gates.connections == {}


async def test_when_others_have_all_connections_mail_waits_without_an_attempt(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    policy(relay, "b.test", max_connections=1)
    await relay.gates.take_connection("b.test", limit=1, owner="x", now=START, until=START + 120 * S)
    await submit(relay, 3)
    await Fleet(relay, workers=2).run(all_final(relay))
    assert {len(record.attempts) for record in deliveries(relay)} == {1}
    assert min(dialer.tried["b.test"]) >= START + 120 * S


# What it costs when there is nothing to hold back, and when the store is away.


async def test_mail_without_limits_costs_no_call_of_its_own(relay: MemoryRelay) -> None:
    await submit(relay, 300)
    await submit(relay, 300, "c.test")
    await Fleet(relay, workers=4).run(all_final(relay))
    assert relay.gates.updates.total() == 0
    # A worker's first look at which circuits are open; the next would come after five seconds.
    assert relay.gates.reads == {"troubled": 4}


async def test_when_the_store_is_away_a_limit_holds_in_each_worker_and_says_so(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    policy(relay, "b.test", rate="60/min", max_connections=3)
    dialer.takes["b.test"] = 0.5
    for call in STORE:
        relay.faults.fail(f"gates.{call}", times=None)
    await submit(relay, 100)
    await Fleet(relay, workers=1).run(all_final(relay))
    assert {record.status for record in deliveries(relay)} == {State.SENT}
    assert most_in_any(dialer.tried["b.test"], 10 * S) <= 11
    assert dialer.most_open["b.test"] <= 3
    assert relay.metrics.counts["gates_unreachable"] > 0
    assert relay.gates.updates.total() == 0


async def test_one_sites_item_that_is_throttled_leaves_the_limits_of_others_as_they_are(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    for domain in ("b.test", "c.test"):
        policy(relay, domain, rate="60/min")
    real = relay.gates.take_turns

    async def throttled(site: str, ask: Ask, *, shard: int = 0) -> Sequence[Turn]:
        if site == "b.test":
            raise ControlTrouble("throttled")
        return await real(site, ask, shard=shard)

    relay.gates.take_turns = throttled  # type: ignore[method-assign]
    for _ in range(20):
        await submit(relay, 1, "b.test")
        await submit(relay, 2, "c.test")
    await Fleet(relay, workers=4).run(all_final(relay))
    # Each worker by itself there; all together here.
    assert most_in_any(dialer.tried["c.test"], 10 * S) <= 11
    assert most_in_any(dialer.tried["b.test"], 10 * S) <= 4 * 11
    assert relay.metrics.counts["gates_unreachable"] > 0


async def test_when_the_store_is_away_a_dead_site_is_let_alone_by_each_worker(
    relay: MemoryRelay, dialer: TimedDialer
) -> None:
    for call in STORE:
        relay.faults.fail(f"gates.{call}", times=None)
    dialer.host("b.test").refusal = DEAD
    await submit(relay, 100)
    await Fleet(relay, workers=2).run(lambda: relay.clock.now() - START > 290 * S)
    assert len(dialer.tried["b.test"]) <= 2 * 5
