"""Nothing is lost and nothing is sent twice unmarked, wherever a worker dies or a store fails.

One message with a good, a rejecting and a deferring destination makes a run of port calls. Each of them
is made to fail, before and after it took effect, with the store's own trouble and with the worker's death;
after each, everything must still come to its end.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from empath.domain.delivery_state import State
from empath.domain.errors import QueueTrouble, SpoolTrouble
from empath.domain.outcome import Deferred, Failed
from empath.domain.records import DeliveryRecord
from empath.domain.reply import Reply
from empath.ports import OutgoingJob, QueueName
from empath.testing.faults import AFTER, BEFORE, When, WorkerDied
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

REJECTED = "bob@reject.test"
DEFERRED = "bob@defer.test"
GOOD = "bob@good.test"
SENDER = "ann@a.test"

# What a run of the message below calls, found by the first test.
CALLS = {
    "spool.put": 2,
    "spool.read": 5,
    "spool.delete": 2,
    "queue.send": 12,
    "ledger.create": 2,
    "ledger.claim": 5,
    "ledger.message": 6,
    "ledger.record": 5,
    "ledger.mark_queued": 1,
    "ledger.mark_reported": 1,
    "ledger.delivery": 1,
    "ledger.settle": 4,
    "ledger.close": 1,
    "control.policy": 13,
    "control.tenant_policy": 3,
    "quotas.take": 1,
}


def relay_with_three_outcomes() -> tuple[MemoryRelay, ScriptedDialer]:
    dialer = ScriptedDialer()
    dialer.host("reject.test").outcomes[REJECTED] = Failed(Reply.heard(550, "5.1.1 no"))
    dialer.host("defer.test").outcomes[DEFERRED] = [Deferred(Reply.heard(451, "4.7.1 later"))]
    return MemoryRelay(dialer=dialer), dialer


def ambiguous_attempts(relay: MemoryRelay) -> Counter[str]:
    """Per destination, how many attempts may have sent without anybody knowing."""
    return Counter(
        {
            record.domain: sum(1 for attempt in record.attempts if attempt.ambiguous)
            for record in relay.ledger.all_deliveries()
        }
    )


def assert_all_is_well(relay: MemoryRelay, dialer: ScriptedDialer, message_id: str) -> None:
    assert relay.states(message_id) == {
        GOOD: State.SENT,
        REJECTED: State.FAILED,
        DEFERRED: State.SENT,
    }
    (report_id,) = relay.reports_of(message_id)
    assert relay.states(report_id) == {SENDER: State.SENT}
    assert relay.spool.objects == {}, "a settled message leaves no raw object"
    copies = Counter(address for message in dialer.messages for address in message.recipients)
    excused = ambiguous_attempts(relay)
    for address, count in copies.items():
        assert count == 1 or count <= 1 + excused[address.split("@")[1]], f"{address} was sent {count} times"
    assert set(copies) == {GOOD, DEFERRED, SENDER}
    assert all(record.lease is None for record in relay.ledger.all_deliveries())


async def test_the_calls_below_are_those_that_a_run_makes() -> None:
    relay, dialer = relay_with_three_outcomes()
    message_id = await relay.submit(SENDER, [GOOD, REJECTED, DEFERRED])
    await relay.run()
    assert_all_is_well(relay, dialer, message_id)
    assert {call: count for call, count in Counter(relay.faults.calls).items() if call in CALLS} == CALLS


@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize("death", [False, True], ids=["trouble", "death"])
@pytest.mark.parametrize(
    ("call", "number"), [(call, number) for call, count in CALLS.items() for number in range(count)]
)
async def test_one_failed_call_anywhere_loses_nothing(
    call: str, number: int, death: bool, when: When
) -> None:
    relay, dialer = relay_with_three_outcomes()
    before_250 = (call == "spool.put" and number == 0) or (call == "queue.send" and number == 0)
    relay.faults.fail(call, when=when, after_calls=number, error=WorkerDied() if death else None)
    if before_250:
        with pytest.raises((SpoolTrouble, QueueTrouble, WorkerDied)):
            await relay.submit(SENDER, [GOOD, REJECTED, DEFERRED])
        message_id = await relay.submit(SENDER, [GOOD, REJECTED, DEFERRED])
        await relay.run()
        assert relay.states(message_id)[GOOD] is State.SENT
        return
    message_id = await relay.submit(SENDER, [GOOD, REJECTED, DEFERRED])
    await relay.run()
    assert_all_is_well(relay, dialer, message_id)


async def test_an_answer_lost_after_the_final_dot_is_marked_ambiguous() -> None:
    dialer = ScriptedDialer()
    dialer.host("good.test").ambiguous = 1
    relay = MemoryRelay(dialer=dialer)
    message_id = await relay.submit(SENDER, [GOOD])
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    assert [attempt.ambiguous for attempt in record.attempts] == [True, False]
    assert len(dialer.messages) == 2


async def test_a_worker_that_dies_before_its_record_leaves_an_ambiguous_attempt() -> None:
    relay, _dialer = relay_with_three_outcomes()
    relay.faults.fail("ledger.record", when=BEFORE, error=WorkerDied())
    message_id = await relay.submit(SENDER, [GOOD])
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    assert record.attempts[0].ambiguous
    assert record.attempts[0].duration is None
    assert record.attempts[1].reply is not None
    assert not record.attempts[1].ambiguous


async def test_a_record_whose_answer_was_lost_is_recognised_and_nothing_is_sent_again() -> None:
    relay, dialer = relay_with_three_outcomes()
    relay.faults.fail("ledger.record", when=AFTER)
    await relay.submit(SENDER, [GOOD])
    await relay.run()
    assert len(dialer.messages) == 1
    assert not any(ambiguous_attempts(relay).values())


async def test_when_the_spool_or_the_queue_fails_nothing_is_accepted() -> None:
    relay, dialer = relay_with_three_outcomes()
    relay.faults.fail("spool.put")
    with pytest.raises(SpoolTrouble) as trouble:
        await relay.submit(SENDER, [GOOD])
    assert str(trouble.value.reply).startswith("451 4.3.0")
    relay.faults.fail("queue.send")
    with pytest.raises(QueueTrouble):
        await relay.submit(SENDER, [GOOD])
    await relay.run()
    assert dialer.messages == []


@pytest.mark.parametrize("seed", range(20))
async def test_duplicated_and_reordered_jobs_send_nothing_twice(seed: int) -> None:
    relay, dialer = relay_with_three_outcomes()
    chance = random.Random(seed)
    message_id = await relay.submit(SENDER, [GOOD, REJECTED, DEFERRED])
    for _ in range(60):
        name = chance.choice(list(QueueName))
        pending = relay.queue.pending(name)
        if pending and chance.random() < 0.4:
            relay.queue.duplicate(name, chance.choice(pending).body)
        await relay.work(name)
        if chance.random() < 0.3:
            await relay.follow_stream()
        relay.clock.advance(chance.choice([0, 1, 40, 100]))
    await relay.run()
    assert_all_is_well(relay, dialer, message_id)
    assert not any(ambiguous_attempts(relay).values())


@pytest.mark.parametrize("body", ["{", "[]", '{"v": 2, "message_id": "x"}', '{"v": 1}', "null"])
async def test_an_unreadable_job_ends_in_the_dead_letter_queue_and_its_neighbours_are_done(
    body: str, caplog: pytest.LogCaptureFixture
) -> None:
    relay, dialer = relay_with_three_outcomes()
    for name in QueueName:
        await relay.queue.send(name, [OutgoingJob(body=body)])
    message_id = await relay.submit(SENDER, [GOOD])
    await relay.run(until=lambda: all(relay.queue.dead(name) for name in QueueName), days=1)
    for _ in range(10):
        await relay.tick()
    assert relay.states(message_id) == {GOOD: State.SENT}
    assert len(dialer.messages) == 1
    assert all([job.body for job in relay.queue.dead(name)] == [body] for name in QueueName)
    assert any("unreadable job" in entry.message for entry in caplog.records)


def _is_deferred(relay: MemoryRelay) -> bool:
    return any(record.status is State.DEFERRED for record in relay.ledger.all_deliveries())


async def test_a_delivery_job_in_the_dead_letter_queue_becomes_a_deferral() -> None:
    relay, _dialer = relay_with_three_outcomes()
    relay.faults.fail("ledger.claim", times=5)
    message_id = await relay.submit(SENDER, [GOOD])
    await relay.run(until=lambda: _is_deferred(relay))
    (record,) = await relay.ledger.deliveries(message_id)
    assert record.status is State.DEFERRED
    assert record.reason == "worker_failed"
    assert relay.queue.dead(QueueName.DELIVERY) == []
    await relay.run()
    assert relay.states(message_id) == {GOOD: State.SENT}


async def test_an_accepted_job_that_can_never_be_resolved_expires_with_a_report() -> None:
    relay, _dialer = relay_with_three_outcomes()
    relay.faults.fail(
        "ledger.create",
        times=None,
        matching=lambda message, deliveries: (
            any(record.status is State.QUEUED for record in deliveries) and message.reverse_path is not None
        ),
    )
    message_id = await relay.submit(SENDER, [GOOD])
    await relay.run()
    assert relay.states(message_id) == {GOOD: State.EXPIRED}
    assert len(relay.reports_of(message_id)) == 1


async def test_a_lost_retry_job_heals() -> None:
    relay, _dialer = relay_with_three_outcomes()
    message_id = await relay.submit(SENDER, [DEFERRED])
    await relay.run(until=lambda: bool(relay.queue.pending(QueueName.RETRY)))
    relay.clock.advance(3600)
    (job,) = relay.queue.receive(QueueName.RETRY)
    relay.queue.delete(QueueName.RETRY, job.receipt)
    await relay.run()
    assert relay.states(message_id) == {DEFERRED: State.SENT}


async def test_a_worker_without_time_begins_no_attempt() -> None:
    relay, dialer = relay_with_three_outcomes()
    relay.invocation = 5.0
    await relay.submit(SENDER, [GOOD])
    await relay.work(QueueName.ACCEPTED)
    await relay.work(QueueName.DELIVERY)
    (record,) = relay.ledger.all_deliveries()
    assert isinstance(record, DeliveryRecord)
    assert record.attempts == ()
    assert dialer.endpoints == []
