"""Whatever dies and whatever is lost, a repair and the workers bring it to a clean end; and a repair in the
middle of a healthy run changes nothing.

The one loss that nobody can make good is that of a job on `accepted`, which alone knows the envelope: its
content is kept for as long as such a job may come, and told of.
"""

from __future__ import annotations

import inspect
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from empath.domain.delivery_state import State
from empath.domain.errors import QueueTrouble, SpoolTrouble
from empath.pipeline.discrepancies import OWED_FOR, Kind
from empath.pipeline.reconcile import Outcome, Reconciliation
from empath.ports import QueueName
from empath.testing.faults import AFTER, BEFORE, When, WorkerDied
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay
from tests.scenarios.test_faults import CALLS, ambiguous_attempts
from tests.unit.pipeline.reconciling import (
    DEFERRED,
    GOOD,
    REJECTED,
    SENDER,
    Reconciled,
    lose_changes,
    lose_jobs,
    reconciled,
)

ALL = [GOOD, REJECTED, DEFERRED]
OUTCOME = {GOOD: State.SENT, REJECTED: State.FAILED, DEFERRED: State.SENT}
BUT_ACCEPTED = [name for name in QueueName if name is not QueueName.ACCEPTED]


def has_struck(relay: MemoryRelay) -> bool:
    return not relay.faults._rules


def assert_each_got_it_once(relay: MemoryRelay, dialer: ScriptedDialer) -> None:
    excused = ambiguous_attempts(relay)
    copies = Counter(address for message in dialer.messages for address in message.recipients)
    for address, count in copies.items():
        assert count <= 1 + excused[address.split("@")[1]], f"{address} was sent {count} times"


async def killed(call: str, number: int, when: When) -> tuple[Reconciled, ScriptedDialer, str | None]:
    """A relay at the moment when its worker died at a call; with the message's id, if it was accepted."""
    world, dialer = reconciled()
    relay = world.relay
    relay.faults.fail(call, when=when, after_calls=number, error=WorkerDied())
    message_id = None
    try:
        message_id = await relay.submit(SENDER, ALL)
    except WorkerDied:
        return world, dialer, None
    await relay.run(until=lambda: has_struck(relay), days=1)
    return world, dialer, message_id


everywhere = pytest.mark.parametrize(
    ("call", "number"), [(call, number) for call, count in CALLS.items() for number in range(count)]
)


@everywhere
@pytest.mark.parametrize("when", [BEFORE, AFTER])
async def test_whatever_was_lost_when_a_worker_died_is_made_good(call: str, number: int, when: When) -> None:
    world, dialer, message_id = await killed(call, number, when)
    lose_jobs(world.relay, *BUT_ACCEPTED)
    lose_changes(world.relay)
    world.later()
    for _ in range(2):
        await world.repair()
    await world.relay.run()
    world.later(OWED_FOR.total_seconds())
    await world.repair()
    assert await world.is_clean()
    assert_each_got_it_once(world.relay, dialer)
    if message_id is not None:
        assert world.relay.states(message_id) == OUTCOME
        assert len(world.relay.reports_of(message_id)) == 1


@everywhere
@pytest.mark.parametrize("when", [BEFORE, AFTER])
async def test_content_whose_envelope_is_lost_is_kept_for_as_long_as_it_may_be_owed(
    call: str, number: int, when: When
) -> None:
    world, dialer, _ = await killed(call, number, when)
    lose_jobs(world.relay)
    lose_changes(world.relay)
    world.later()
    await world.repair()
    await world.relay.run()
    world.later()
    left = await world.repair()
    assert set(left) <= {(Kind.UNKNOWN_OBJECT, Outcome.LEFT)}
    assert len(left) == len(world.relay.spool.objects)
    world.later(OWED_FOR.total_seconds())
    await world.repair()
    assert await world.is_clean()
    assert_each_got_it_once(world.relay, dialer)


def stepping(port: Any, step: Callable[[], Awaitable[None]]) -> Any:
    """The same port, with `step` before every call and between the pages of a stream."""

    class Stepping:
        def __getattr__(self, name: str) -> Any:
            target = getattr(port, name)
            if inspect.isasyncgenfunction(target):

                async def pages(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
                    async for page in target(*args, **kwargs):
                        yield page
                        await step()

                return pages

            async def call(*args: Any, **kwargs: Any) -> Any:
                await step()
                return await target(*args, **kwargs)

            return call

    return Stepping()


async def scenario(
    seed: int, *, repairing: bool, breaking: bool
) -> tuple[Reconciled, ScriptedDialer, list[str]]:
    """Three messages, worked on in an order drawn from `seed`; a repair and a step of the relay take turns.

    With `repairing` there are repairs, between any two of whose calls the relay works; with `breaking` jobs
    and changes are lost, and workers die.
    """
    world, dialer = reconciled()
    relay, chance, other = world.relay, random.Random(seed), random.Random(-seed)
    accepted: list[str] = []

    async def step(draws: random.Random) -> None:
        await relay.work(draws.choice(list(QueueName)))
        if draws.random() < 0.3:
            await relay.follow_stream()
        relay.clock.advance(draws.choice([0, 1, 40, 400]))
        if draws.random() < 0.1:
            await relay.tick()

    stepped = {
        name: stepping(getattr(world.stage, name), lambda: step(other))
        for name in ("inventory", "spool", "queue", "ledger")
    }
    stage = Reconciliation(**stepped, clock=relay.clock)
    for number in range(40):
        if number < 3:
            accepted.append(await relay.submit(SENDER, ALL))
        elif breaking and chance.random() < 0.1:
            lose_jobs(relay, chance.choice(BUT_ACCEPTED))
        elif breaking and chance.random() < 0.1:
            lose_changes(relay)
        elif breaking and chance.random() < 0.2:
            calls = ["ledger.record", "ledger.claim", "ledger.settle", "queue.send", "spool.delete"]
            relay.faults.fail(chance.choice(calls), when=chance.choice([BEFORE, AFTER]), error=WorkerDied())
        await step(chance)
        if repairing and number % 5 == 4:
            await stage.run(lambda _: None, repair=True, patience=timedelta(seconds=chance.choice([1, 60])))
    relay.faults.heal()
    return world, dialer, accepted


@pytest.mark.parametrize("seed", range(40))
async def test_a_repair_while_all_is_well_changes_no_outcome(seed: int) -> None:
    world, dialer, accepted = await scenario(seed, repairing=True, breaking=False)
    await world.relay.run()
    for message_id in accepted:
        assert world.relay.states(message_id) == OUTCOME
        assert len(world.relay.reports_of(message_id)) == 1
    copies = Counter(address for message in dialer.messages for address in message.recipients)
    assert copies == {GOOD: 3, DEFERRED: 3, SENDER: 3}
    assert not any(ambiguous_attempts(world.relay).values())
    world.later()
    assert await world.is_clean()


@pytest.mark.parametrize("seed", range(60))
async def test_a_relay_that_loses_much_comes_to_a_clean_end(seed: int) -> None:
    world, _, accepted = await scenario(seed, repairing=seed % 2 == 0, breaking=True)
    lose_jobs(world.relay, *BUT_ACCEPTED)
    lose_changes(world.relay)
    world.later()
    await world.repair()
    await world.relay.run()
    world.later()
    await world.repair()
    assert await world.is_clean()
    for message_id in accepted:
        assert world.relay.states(message_id) == OUTCOME
        assert len(world.relay.reports_of(message_id)) == 1


async def test_what_a_client_never_heard_250_for_is_nobodys_mail() -> None:
    world, dialer = reconciled()
    world.relay.faults.fail("queue.send")
    with pytest.raises((QueueTrouble, SpoolTrouble)):
        await world.relay.submit(SENDER, ALL)
    world.later()
    assert await world.repair() == [(Kind.UNKNOWN_OBJECT, Outcome.LEFT)]
    await world.relay.run()
    assert dialer.messages == []
    world.later(OWED_FOR.total_seconds())
    assert await world.repair() == [(Kind.UNKNOWN_OBJECT, Outcome.REPAIRED)]
    assert await world.is_clean()
