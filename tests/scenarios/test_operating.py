"""Operators among workers: what they do takes effect once, undoes nothing, and loses no mail."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from empath.domain.delivery_state import FINAL, State
from empath.domain.errors import LedgerTrouble, QueueTrouble, Trouble
from empath.domain.outcome import Deferred, Failed, RecipientOutcome
from empath.domain.reason import Reason
from empath.domain.records import Attempt, DeliveryRecord, Lease, OperationName
from empath.domain.reply import Reply
from empath.pipeline.conclude import RETENTION
from empath.pipeline.operating import SKEW, Did, Operated, Operations
from empath.ports import QueueName
from empath.testing.faults import AFTER, BEFORE, When, WorkerDied
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

SENDER, TO = "ann@a.test", "bob@b.test"
OPERATOR = "arn:aws:iam::123456789012:user/ann"
ACTIONS: tuple[OperationName, ...] = ("hold", "release", "retry", "delete")
LATER = Deferred(Reply.heard(451, "4.7.1 later"))


def operations(relay: MemoryRelay) -> Operations:
    ledger = relay.faults.wrap("operator.ledger", relay.ledger, LedgerTrouble)
    queue = relay.faults.wrap("operator.queue", relay.queue, QueueTrouble)
    return Operations(queue, ledger, relay.clock, relay.ids, OPERATOR)


def new_relay(*outcomes: RecipientOutcome) -> tuple[MemoryRelay, ScriptedDialer]:
    dialer = ScriptedDialer()
    dialer.host("b.test").outcomes[TO] = list(outcomes)
    return MemoryRelay(dialer=dialer), dialer


async def the_delivery(relay: MemoryRelay, message_id: str) -> DeliveryRecord:
    [record] = await relay.ledger.deliveries(message_id)
    return record


async def submitted(relay: MemoryRelay, status: State = State.QUEUED, sender: str | None = SENDER) -> str:
    """A message that is QUEUED, or DEFERRED for a minute and without a job."""
    message_id = await relay.submit(sender, [TO])
    await relay.work(QueueName.ACCEPTED)
    if status is State.DEFERRED:
        await relay.work(QueueName.DELIVERY)
    assert (await the_delivery(relay, message_id)).status is status
    return message_id


async def operate(relay: MemoryRelay, action: OperationName, message_id: str, **options: object) -> Operated:
    record = await the_delivery(relay, message_id)
    return await operations(relay).operate(action, record.key, **options)  # type: ignore[arg-type]


async def in_state(relay: MemoryRelay, state: State) -> str:
    """A message in any state, brought there by the pipeline and by operators."""
    message_id = await submitted(relay)
    match state:
        case State.QUEUED:
            return message_id
        case State.HELD:
            await operate(relay, "hold", message_id)
        case State.CANCELLED:
            await operate(relay, "delete", message_id)
        case State.EXPIRED:
            relay.clock.advance(6 * 86_400)
            await relay.work(QueueName.DELIVERY)
        case _:
            await relay.work(QueueName.DELIVERY)
    assert (await the_delivery(relay, message_id)).status is state
    return message_id


OUTCOMES: dict[State, RecipientOutcome] = {
    State.DEFERRED: LATER,
    State.EXPIRED: LATER,
    State.FAILED: Failed(Reply.heard(550, "5.1.1 no")),
}

# What each operation makes of a delivery in each state, and what is said of it.
EXPECTED: dict[OperationName, dict[State, tuple[Did, State]]] = {
    "hold": {
        State.QUEUED: (Did.DONE, State.HELD),
        State.DEFERRED: (Did.DONE, State.HELD),
        State.HELD: (Did.UNCHANGED, State.HELD),
    },
    "release": {
        State.QUEUED: (Did.UNCHANGED, State.QUEUED),
        State.DEFERRED: (Did.UNCHANGED, State.DEFERRED),
        State.HELD: (Did.DONE, State.DEFERRED),
    },
    "retry": {
        State.QUEUED: (Did.DONE, State.QUEUED),
        State.DEFERRED: (Did.DONE, State.DEFERRED),
        State.HELD: (Did.REFUSED, State.HELD),
    },
    "delete": {
        State.QUEUED: (Did.DONE, State.CANCELLED),
        State.DEFERRED: (Did.DONE, State.CANCELLED),
        State.HELD: (Did.DONE, State.CANCELLED),
        State.CANCELLED: (Did.UNCHANGED, State.CANCELLED),
    },
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("action", ACTIONS)
async def test_every_operation_in_every_state(action: OperationName, state: State) -> None:
    relay, _ = new_relay(*([OUTCOMES[state]] if state in OUTCOMES else []))
    message_id = await in_state(relay, state)
    before = await the_delivery(relay, message_id)
    did, after = EXPECTED[action].get(state, (Did.REFUSED, state))
    found = await operate(relay, action, message_id)
    record = await the_delivery(relay, message_id)
    assert (found.did, found.before, found.after) == (did, state, after)
    assert record.status is after
    if did is Did.DONE:
        assert record.operation is not None
        assert (record.operation.action, record.operation.operator) == (action, OPERATOR)
    else:
        assert record == before, "what is not done changes nothing"


async def test_a_delivery_that_nobody_knows_is_missing() -> None:
    relay, _ = new_relay()
    message_id = await submitted(relay)
    key = (await the_delivery(relay, message_id)).key.model_copy(update={"delivery": "delivery#c.test"})
    for action in ACTIONS:
        assert (await operations(relay).operate(action, key)).did is Did.MISSING


# Held, released, tried now.


@pytest.mark.parametrize("state", [State.QUEUED, State.DEFERRED])
async def test_what_is_held_is_not_tried_whatever_jobs_are_about_until_it_is_released(state: State) -> None:
    relay, dialer = new_relay(*([LATER] if state is State.DEFERRED else []))
    message_id = await submitted(relay, state)
    await operate(relay, "hold", message_id)
    tried = len(dialer.endpoints)
    for _ in range(3 * 24 * 4):  # three days of quarters of an hour
        await relay.tick()
        while any([await relay.work(name) for name in QueueName]):
            pass
        relay.clock.advance(900)
    record = await the_delivery(relay, message_id)
    assert (record.status, record.reason) == (State.HELD, Reason.OPERATOR_HOLD)
    assert len(dialer.endpoints) == tried
    await operate(relay, "release", message_id)
    await relay.run(days=0.01)
    assert relay.states(message_id) == {TO: State.SENT}
    assert len(dialer.messages) == 1
    assert relay.spool.objects == {}


async def test_a_retry_comes_before_its_time_and_the_old_job_does_nothing() -> None:
    relay, dialer = new_relay(LATER)
    message_id = await submitted(relay, State.DEFERRED)
    assert relay.queue.pending(QueueName.RETRY), "its job is there, a minute from now"
    await operate(relay, "retry", message_id)
    await relay.work(QueueName.RETRY)
    assert relay.states(message_id) == {TO: State.SENT}
    await relay.run()
    assert len(dialer.messages) == 1
    assert (await the_delivery(relay, message_id)).attempt == 3


async def test_a_retry_of_a_queued_delivery_replaces_a_first_job_that_was_lost() -> None:
    relay, _ = new_relay()
    message_id = await submitted(relay)
    (job,) = relay.queue.receive(QueueName.DELIVERY)
    relay.queue.delete(QueueName.DELIVERY, job.receipt)
    await operate(relay, "retry", message_id)
    await relay.run(days=0.01)
    assert relay.states(message_id) == {TO: State.SENT}


async def test_a_retry_takes_no_slot_of_before_for_its_own() -> None:
    """A rate limit gave it one for later; now is not it."""
    relay, _ = new_relay(LATER)
    message_id = await submitted(relay, State.DEFERRED)
    record = await the_delivery(relay, message_id)
    slotted = record.model_copy(
        update={"reason": Reason.SLOT_RESERVED, "next_attempt_at": relay.clock.now() + timedelta(hours=2)}
    )
    assert await relay.ledger.record_unclaimed(slotted, attempt=record.attempt, now=relay.clock.now())
    await operate(relay, "retry", message_id)
    assert '"slot"' not in relay.queue.pending(QueueName.RETRY)[-1].body


async def test_a_retry_in_a_while_is_due_then() -> None:
    relay, _ = new_relay(LATER)
    message_id = await submitted(relay, State.DEFERRED)
    await operate(relay, "retry", message_id, wait=35.0)
    record = await the_delivery(relay, message_id)
    due = relay.clock.now() + timedelta(seconds=35)
    assert (record.next_attempt_at, record.job_at) == (due, due)


@pytest.mark.parametrize("expires_by", ["time", "attempts"])
async def test_what_is_released_when_its_time_is_over_gets_one_last_attempt(expires_by: str) -> None:
    relay, dialer = new_relay(LATER, LATER)
    if expires_by == "attempts":
        await relay.control.set_policy("b.test", {"retry": {"max_attempts": 2}})
    message_id = await submitted(relay, State.DEFERRED)
    await operate(relay, "hold", message_id)
    if expires_by == "time":
        relay.clock.advance(20 * 86_400)
    for _ in range(5):
        await relay.tick()
    assert (await the_delivery(relay, message_id)).status is State.HELD, "what is held does not expire"
    await operate(relay, "release", message_id)
    await relay.run(days=0.01)
    record = await the_delivery(relay, message_id)
    assert (record.status, len(record.attempts)) == (State.EXPIRED, 2)
    assert len(relay.reports_of(message_id)) == 1
    assert dialer.messages[-1].recipients == (SENDER,)


async def test_the_last_attempt_of_what_is_released_late_may_succeed() -> None:
    relay, _ = new_relay(LATER)
    message_id = await submitted(relay, State.DEFERRED)
    await operate(relay, "hold", message_id)
    relay.clock.advance(20 * 86_400)
    await operate(relay, "release", message_id)
    await relay.run(days=0.01)
    assert relay.states(message_id) == {TO: State.SENT}


@pytest.mark.parametrize("action", ["release", "delete"])
async def test_what_policy_holds_because_it_is_ambiguous_waits_for_an_operator(action: OperationName) -> None:
    relay, dialer = new_relay()
    dialer.host("b.test").ambiguous = 1
    await relay.control.set_policy("b.test", {"on_ambiguous": "hold"})
    message_id = await submitted(relay)
    await relay.work(QueueName.DELIVERY)
    assert (await the_delivery(relay, message_id)).reason is Reason.AMBIGUOUS
    assert (await operate(relay, action, message_id)).did is Did.DONE
    await relay.run(days=0.01)
    assert relay.states(message_id) == {TO: State.SENT if action == "release" else State.CANCELLED}
    assert relay.spool.objects == {}


async def test_a_delivery_that_is_held_in_part_is_released_whole() -> None:
    """One recipient in doubt is held, another one deferred: the status is DEFERRED, and one is held."""
    dialer = ScriptedDialer()
    dialer.host("b.test").ambiguous = 1
    dialer.host("b.test").outcomes["cat@b.test"] = [Deferred(Reply.heard(452, "4.2.2 full"))]
    relay = MemoryRelay(dialer=dialer)
    await relay.control.set_policy("b.test", {"on_ambiguous": "hold"})
    message_id = await relay.submit(SENDER, [TO, "cat@b.test"])
    await relay.work(QueueName.ACCEPTED)
    await relay.work(QueueName.DELIVERY)
    assert relay.states(message_id) == {TO: State.HELD, "cat@b.test": State.DEFERRED}
    assert (await operate(relay, "retry", message_id)).did is Did.DONE
    assert relay.states(message_id)[TO] is State.HELD
    assert (await operate(relay, "release", message_id)).did is Did.DONE
    await relay.run(days=0.01)
    assert set(relay.states(message_id).values()) == {State.SENT}


# Deleted.


@pytest.mark.parametrize("state", [State.QUEUED, State.DEFERRED, State.HELD])
async def test_what_is_deleted_is_settled_and_its_raw_object_goes(state: State) -> None:
    relay, dialer = new_relay(*([LATER] if state is State.DEFERRED else []))
    message_id = await in_state(relay, state)
    now = relay.clock.now()
    await operate(relay, "delete", message_id)
    await relay.run()
    record = await the_delivery(relay, message_id)
    assert (record.status, record.reason, record.forget_at) == (
        State.CANCELLED,
        Reason.OPERATOR_DELETE,
        now + RETENTION,
    )
    assert relay.spool.objects == {}
    assert relay.reports_of(message_id) == []
    assert dialer.messages == []


@pytest.mark.parametrize("state", [State.QUEUED, State.DEFERRED, State.HELD])
async def test_a_delete_with_a_report_tells_the_sender_once(state: State) -> None:
    relay, dialer = new_relay(*([LATER] if state is State.DEFERRED else []))
    message_id = await in_state(relay, state)
    found = await operate(relay, "delete", message_id, report=True)
    assert (found.did, found.after, found.reported) == (Did.DONE, State.FAILED, True)
    again = await operate(relay, "delete", message_id, report=True)
    assert again.did is Did.UNCHANGED
    await relay.run()
    assert relay.states(message_id) == {TO: State.FAILED}
    [report] = dialer.messages
    assert report.recipients == (SENDER,)
    text = report.content.decode()
    assert "An administrator of this relay took the message out of its queue." in text
    assert "Status: 5.7.0" in text
    assert relay.spool.objects == {}


@pytest.mark.parametrize("sender", [None, SENDER])
async def test_a_delete_with_a_report_reports_by_the_rules_of_reports(sender: str | None) -> None:
    relay, dialer = new_relay()
    message_id = await submitted(relay, sender=sender)
    found = await operate(relay, "delete", message_id, report=True)
    assert found.reported is (sender is not None)
    await relay.run()
    assert len(dialer.messages) == (0 if sender is None else 1)
    assert relay.states(message_id) == {TO: State.FAILED}


async def test_an_attempt_without_an_end_is_told_when_its_delivery_is_deleted() -> None:
    relay, _ = new_relay()
    message_id = await submitted(relay)
    relay.faults.fail("ledger.record", error=WorkerDied())
    await relay.work(QueueName.DELIVERY)
    relay.clock.advance(600)
    assert (await operate(relay, "delete", message_id)).did is Did.DONE
    [attempt] = (await the_delivery(relay, message_id)).attempts
    assert attempt.ambiguous


# Beside workers.


@pytest.mark.parametrize("action", ACTIONS)
async def test_nothing_is_done_to_what_a_worker_has(action: OperationName) -> None:
    """Nor for five minutes more than its lease says: an operator's clock may be ahead."""
    relay, _ = new_relay()
    message_id = await submitted(relay)
    record = await the_delivery(relay, message_id)
    now = relay.clock.now()
    lease_end = now + timedelta(seconds=100)
    await relay.ledger.claim(record.key, attempt=1, owner="w", now=now, until=lease_end)
    claimed = await the_delivery(relay, message_id)
    for seconds in (0, 99, 100, 100 + SKEW.total_seconds() - 1):
        relay.clock.advance_to(now + timedelta(seconds=seconds))
        found = await operate(relay, action, message_id)
        assert (found.did, found.until) == (Did.BUSY, lease_end + SKEW)
    assert await the_delivery(relay, message_id) == claimed
    relay.clock.advance_to(lease_end + SKEW)
    assert (await operate(relay, action, message_id)).did is not Did.BUSY


@pytest.mark.parametrize("lease_left", [100, -240], ids=["", "by a clock that is ahead"])
@pytest.mark.parametrize("action", ACTIONS)
async def test_a_claim_between_reading_and_writing_wins(action: OperationName, lease_left: int) -> None:
    relay, dialer = new_relay()
    message_id = await in_state(relay, State.HELD if action == "release" else State.QUEUED)
    record = await the_delivery(relay, message_id)
    now = relay.clock.now()
    leased = Lease(owner="w", until=now + timedelta(seconds=lease_left))
    begun = Attempt(attempt=1, started=now, owner="w")

    class Overtaken:
        """A ledger in which a worker claims the delivery right after it was read."""

        def __getattr__(self, name: str) -> object:
            return getattr(relay.ledger, name)

        async def delivery(self, _: object) -> DeliveryRecord:
            stored = await the_delivery(relay, message_id)
            relay.ledger._put_delivery(stored.model_copy(update={"lease": leased, "attempts": (begun,)}))
            return stored

    overtaken = Operations(relay.queue, Overtaken(), relay.clock, relay.ids, OPERATOR)  # type: ignore[arg-type]
    found = await overtaken.operate(action, record.key)
    assert found.did is Did.BUSY
    kept = await the_delivery(relay, message_id)
    assert (kept.lease, kept.operation) == (leased, record.operation)
    assert dialer.messages == []


# Faults.

FAULTS = {
    "hold": ["ledger.delivery", "ledger.operate"],
    "release": ["ledger.delivery", "ledger.operate", "queue.send", "ledger.mark_queued"],
    "retry": ["ledger.delivery", "ledger.operate", "queue.send", "ledger.mark_queued"],
    "delete": ["ledger.delivery", "ledger.operate"],
    "delete with a report": [
        "ledger.delivery", "ledger.message", "queue.send", "ledger.operate", "queue.send again",
    ],
}  # fmt: skip


def _begin(name: str) -> tuple[OperationName, dict[str, object], State]:
    action: OperationName = next(action for action in ACTIONS if name.startswith(action))
    state = State.HELD if action == "release" else State.DEFERRED
    return action, {"report": True} if "report" in name else {}, state


@pytest.mark.parametrize("name", FAULTS)
async def test_the_calls_below_are_those_that_an_operation_makes(name: str) -> None:
    action, options, state = _begin(name)
    relay, _ = new_relay(LATER)
    message_id = await in_state(relay, State.DEFERRED)
    if state is State.HELD:
        await operate(relay, "hold", message_id)
    relay.faults.calls.clear()
    await operate(relay, action, message_id, **options)
    made = [call.removeprefix("operator.") for call in relay.faults.calls]
    # An empty `send` costs no request; it is told apart by nobody who counts calls.
    expected = [call.removesuffix(" again") for call in FAULTS[name]]
    assert set(made) == set(expected) | {"queue.send"}
    assert Counter(made)["ledger.operate"] == 1


@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize("death", [False, True], ids=["trouble", "death"])
@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in FAULTS.items() for call in calls])
async def test_one_failed_call_anywhere_loses_nothing(name: str, call: str, death: bool, when: When) -> None:
    """Nobody repeats the command: the operation is done whole, or not at all."""
    action, options, state = _begin(name)
    relay, dialer = new_relay(LATER)
    message_id = await in_state(relay, State.DEFERRED)
    if state is State.HELD:
        await operate(relay, "hold", message_id)
    call, _, again = call.partition(" ")
    relay.faults.fail(
        f"operator.{call}",
        when=when,
        after_calls=1 if again else 0,
        error=WorkerDied() if death else None,
        matching=None if call != "queue.send" else lambda queue, jobs: bool(jobs),
    )
    with pytest.raises((Trouble, WorkerDied)):
        await operate(relay, action, message_id, **options)
    record = await the_delivery(relay, message_id)
    is_done = record.operation is not None and record.operation.action == action
    is_held = record.status is State.HELD
    await relay.run(until=lambda: is_held or relay.is_idle, days=10)
    if is_held:
        assert action == ("hold" if is_done else "release")
        assert dialer.messages == []
        return
    status = (await the_delivery(relay, message_id)).status
    if action != "delete" or not is_done:
        assert status is State.SENT
        assert [message.recipients for message in dialer.messages] == [(TO,)]
    else:
        assert status is (State.FAILED if options else State.CANCELLED)
        assert [message.recipients for message in dialer.messages] == ([(SENDER,)] if options else [])
    assert relay.spool.objects == {}


@pytest.mark.parametrize("seed", range(40))
async def test_operators_and_workers_at_once_conserve_all_mail(seed: int) -> None:
    """Any order of operations, jobs, duplicates and ticks: sent at most once, and nothing is left over."""
    import random

    chance = random.Random(seed)
    dialer = ScriptedDialer()
    addresses = [f"u{number}@d{number}.test" for number in range(4)]
    for address in addresses:
        dialer.host(address.split("@")[1]).outcomes[address] = [LATER] * chance.randrange(4)
    relay = MemoryRelay(dialer=dialer)
    message_id = await relay.submit(SENDER, addresses)
    for _ in range(80):
        what = chance.random()
        if what < 0.35 and (records := await relay.ledger.deliveries(message_id)):
            record = chance.choice(records)
            report = chance.random() < 0.5
            await operations(relay).operate(chance.choice(ACTIONS), record.key, report=report)
        elif what < 0.45:
            await relay.tick()
        else:
            name = chance.choice(list(QueueName))
            pending = relay.queue.pending(name)
            if pending and chance.random() < 0.3:
                relay.queue.duplicate(name, chance.choice(pending).body)
            await relay.work(name)
        if chance.random() < 0.3:
            await relay.follow_stream()
        relay.clock.advance(chance.choice([0, 1, 40, 100]))
    for record in await relay.ledger.deliveries(message_id):
        await operations(relay).operate("release", record.key)
    await relay.run()
    copies = Counter(to for message in dialer.messages for to in message.recipients)
    reports = relay.reports_of(message_id)
    for record in await relay.ledger.deliveries(message_id):
        [(address, known)] = record.recipients.items()
        assert known.state in FINAL
        assert copies[address] == (1 if known.state is State.SENT else 0)
    failed = [
        record
        for record in await relay.ledger.deliveries(message_id)
        if record.status in (State.FAILED, State.EXPIRED)
    ]
    assert copies[SENDER] == len(reports) == len(failed)
    assert relay.spool.objects == {}
