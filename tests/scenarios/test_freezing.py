"""A domain that is frozen: nothing is tried, no attempt counts, nothing is lost, and it can be woken."""

from __future__ import annotations

from collections import Counter

import pytest

from empath.control import queue_freezing
from empath.control.errors import ControlError
from empath.domain.delivery_state import State
from empath.domain.reason import Reason
from empath.pipeline.operating import Did, Operations
from empath.ports import QueueName
from empath.testing.memory_control import MemoryControl
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.memory_policies import MemoryPolicies
from empath.testing.relay import MemoryRelay

SENDER, TO = "ann@a.test", "bob@b.test"


def new_relay(frozen: str = "b.test") -> tuple[MemoryRelay, ScriptedDialer]:
    dialer = ScriptedDialer()
    relay = MemoryRelay(dialer=dialer)
    relay.control.items[frozen] = {**relay.control.items.get(frozen, {}), "frozen": True}
    return relay, dialer


async def hours(relay: MemoryRelay, count: float) -> None:
    end = relay.clock.now().timestamp() + count * 3600
    await relay.run(until=lambda: relay.clock.now().timestamp() >= end)


@pytest.mark.parametrize("name", ["b.test", "*"])
async def test_what_is_frozen_is_not_tried_and_no_attempt_counts(name: str) -> None:
    relay, dialer = new_relay(name)
    message_id = await relay.submit(SENDER, [TO])
    await hours(relay, 3)
    [record] = await relay.ledger.deliveries(message_id)
    assert (record.status, record.reason, record.attempt, record.attempts) == (
        State.DEFERRED,
        Reason.FROZEN,
        1,
        (),
    )
    assert dialer.endpoints == []
    # Each wait is at least twice the one before, so a long freeze costs a job a few rounds, and no polling.
    assert Counter(relay.faults.calls)["ledger.record_unclaimed"] <= 5
    relay.control.items[name] = {**relay.control.items[name], "frozen": False}
    await relay.run()
    assert relay.states(message_id) == {TO: State.SENT}
    assert len(dialer.messages) == 1


async def test_other_domains_go_on() -> None:
    relay, dialer = new_relay()
    message_id = await relay.submit(SENDER, [TO, "cat@c.test"])
    await hours(relay, 0.1)
    assert relay.states(message_id)["cat@c.test"] is State.SENT
    assert len(dialer.messages) == 1


async def test_one_domain_is_let_go_while_all_others_are_frozen() -> None:
    relay, _ = new_relay("*")
    relay.control.items["b.test"] = {"frozen": False}
    message_id = await relay.submit(SENDER, [TO, "cat@c.test"])
    await hours(relay, 0.1)
    assert relay.states(message_id)[TO] is State.SENT
    assert relay.states(message_id)["cat@c.test"] is not State.SENT


async def test_a_destination_that_cannot_be_is_not_tried_either() -> None:
    """Without a freeze, its attempt would say that there is no such domain."""
    relay, _ = new_relay("nosuch.test")
    frozen = relay.control.items["nosuch.test"]
    # Where another route is policy, resolve asks no DNS.
    relay.control.items["nosuch.test"] = {**frozen, "route": {"kind": "sink"}}
    message_id = await relay.submit(SENDER, ["bob@nosuch.test"])
    await relay.work(QueueName.ACCEPTED)
    relay.control.items["nosuch.test"] = frozen
    await relay.work(QueueName.DELIVERY)
    [record] = await relay.ledger.deliveries(message_id)
    assert (record.status, record.attempts) == (State.DEFERRED, ())


async def test_what_comes_to_its_end_while_it_is_frozen_expires_and_its_sender_is_told() -> None:
    relay, dialer = new_relay()
    relay.control.items["b.test"] = {"frozen": True, "retry": {"expiry": 6 * 3600}}
    message_id = await relay.submit(SENDER, [TO])
    await relay.run()
    assert relay.states(message_id) == {TO: State.EXPIRED}
    assert dialer.messages[-1].recipients == (SENDER,)
    assert b"Mail to this domain is stopped for now" in dialer.messages[-1].content


async def test_what_a_freeze_put_off_is_due_when_every_worker_knows_that_it_is_over() -> None:
    relay, _ = new_relay()
    message_ids = [await relay.submit(SENDER, [TO]) for _ in range(3)]
    other = await relay.submit(SENDER, ["cat@c.test"])
    await hours(relay, 2)
    operations = Operations(relay.queue, relay.ledger, relay.clock, relay.ids, "ann")
    begun = relay.clock.now()
    del relay.control.items["b.test"]
    woken, has_more = await queue_freezing.wake(operations, "b.test", 2)
    assert ([one.did for one in woken], has_more) == ([Did.DONE, Did.DONE], True)
    woken, has_more = await queue_freezing.wake(operations, "b.test", 2)
    assert (len(woken), has_more) == (1, False)
    for message_id in message_ids:
        [record] = await relay.ledger.deliveries(message_id)
        assert record.next_attempt_at is not None
        assert (record.next_attempt_at - begun).total_seconds() == queue_freezing.IN_FORCE_AFTER > 30
    await hours(relay, 0.05)
    assert all(relay.states(message_id) == {TO: State.SENT} for message_id in [*message_ids])
    assert relay.states(other) == {"cat@c.test": State.SENT}


async def test_a_freeze_keeps_the_rest_of_a_policy_and_is_taken_back() -> None:
    store = MemoryPolicies(MemoryControl())
    await store.put("b.test", {"tls": "required"}, before=None)
    await queue_freezing.freeze(store, "b.test")
    frozen = await store.get("b.test")
    assert frozen is not None
    assert frozen.settings == {"tls": "required", "frozen": True}
    await queue_freezing.unfreeze(store, "b.test")
    thawed = await store.get("b.test")
    assert thawed is not None
    assert thawed.settings == {"tls": "required"}
    with pytest.raises(ControlError, match="is not frozen"):
        await queue_freezing.unfreeze(store, "b.test")
    await queue_freezing.freeze(store, "*")
    await queue_freezing.unfreeze(store, "c.test")
    let_go = await store.get("c.test")
    assert let_go is not None
    assert let_go.settings == {"frozen": False}
    await queue_freezing.unfreeze(store, "*")
    assert await store.get("*") is None
