"""Which lane a site's mail goes by: one delivery finds out, and the others go on."""

from __future__ import annotations

import asyncio

import pytest

from empath.domain.errors import ControlTrouble
from empath.domain.gate import HeldBack
from empath.domain.trial import QUICK, SLOW_FOR, WORKS_FOR
from empath.pipeline.slow_sites import LOOKS, PAUSE, WEIGHT, Lane, SlowSites
from empath.testing.clock import ManualClock
from empath.testing.faults import Faults
from empath.testing.memory_trials import MemoryTrials
from empath.testing.metrics import CountedMetrics

SITE = "mx.b.test"
LONG = 30.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def trials() -> MemoryTrials:
    return MemoryTrials()


@pytest.fixture
def worker(clock: ManualClock, trials: MemoryTrials) -> SlowSites:
    return SlowSites(trials, clock, CountedMetrics())


@pytest.fixture
def other(clock: ManualClock, trials: MemoryTrials) -> SlowSites:
    return SlowSites(trials, clock, CountedMetrics())


def asking(worker: SlowSites, owner: str, time_left: float = 600) -> asyncio.Task[Lane | HeldBack]:
    return asyncio.create_task(worker.ask(SITE, owner=owner, time_left=lambda: time_left))


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_of_a_batch_one_tries_and_the_others_follow_when_it_was_quick(
    worker: SlowSites, trials: MemoryTrials
) -> None:
    asked = [asking(worker, f"{number}") for number in range(10)]
    await turns()
    assert [task.done() for task in asked] == [True, *[False] * 9]
    await worker.ended(SITE, owner="0", took=0.3, is_good=True)
    assert await asyncio.gather(*asked) == [Lane.USUAL] * 10
    assert trials.updates == 2


async def test_what_waits_for_a_trial_goes_by_the_slow_lane_once_it_is_not_quick(
    worker: SlowSites, clock: ManualClock, trials: MemoryTrials
) -> None:
    asked = [asking(worker, f"{number}") for number in range(10)]
    await clock.run_for(QUICK.total_seconds() - 0.1)
    assert sum(task.done() for task in asked) == 1
    await clock.run_for(0.2)
    assert [task.result() for task in asked] == [Lane.USUAL, *[Lane.SLOW] * 9]
    assert trials.updates == 1


async def test_another_worker_hears_of_it_without_a_trial_of_its_own(
    worker: SlowSites, other: SlowSites, clock: ManualClock
) -> None:
    await asking(worker, "a")
    clock.advance(QUICK.total_seconds())
    assert await asking(other, "b") is Lane.SLOW
    await worker.ended(SITE, owner="a", took=LONG, is_good=True)
    clock.advance(60)
    assert await asking(other, "b") is Lane.SLOW
    assert await asking(worker, "c") is Lane.SLOW


async def test_while_another_worker_tries_a_job_waits_a_little_and_is_put_off_then(
    worker: SlowSites, other: SlowSites, clock: ManualClock
) -> None:
    start = clock.now()
    await asking(worker, "a")
    waiting = asking(other, "b")
    await clock.run_for(LOOKS * PAUSE - 0.1)
    assert not waiting.done()
    await clock.run_for(0.2)
    held = waiting.result()
    assert isinstance(held, HeldBack)
    assert held.until == start + QUICK


async def test_a_quick_trial_of_another_worker_lets_those_go_who_wait(
    worker: SlowSites, other: SlowSites, clock: ManualClock
) -> None:
    await asking(worker, "a")
    waiting = asking(other, "b")
    await turns()
    await worker.ended(SITE, owner="a", took=0.2, is_good=True)
    await clock.run_for(PAUSE)
    assert waiting.result() is Lane.USUAL


@pytest.mark.parametrize("is_good", [False, None])
async def test_a_trial_that_says_nothing_leaves_the_site_to_the_next(
    worker: SlowSites, other: SlowSites, is_good: bool | None
) -> None:
    await asking(worker, "a")
    waiting = asking(worker, "b")
    await turns()
    await worker.ended(SITE, owner="a", took=0.1, is_good=is_good)
    assert await waiting is Lane.USUAL
    later = asking(worker, "c")
    await turns()
    assert not later.done(), "b tries now"
    later.cancel()


async def test_a_host_that_is_silent_is_slow_though_it_fails(worker: SlowSites) -> None:
    await asking(worker, "a")
    await worker.ended(SITE, owner="a", took=LONG, is_good=False)
    assert await asking(worker, "b") is Lane.SLOW


async def test_what_works_is_known_for_a_while_and_then_tried_anew(
    worker: SlowSites, clock: ManualClock, trials: MemoryTrials
) -> None:
    await asking(worker, "a")
    await worker.ended(SITE, owner="a", took=0.3, is_good=True)
    clock.advance(WORKS_FOR.total_seconds() - 1)
    assert await asking(worker, "b") is Lane.USUAL
    await worker.ended(SITE, owner="b", took=0.3, is_good=None)
    assert trials.updates == 2
    clock.advance(1)
    await asking(worker, "c")
    waiting = asking(worker, "d")
    await turns()
    assert not waiting.done()
    waiting.cancel()
    assert trials.updates == 3


async def test_one_slow_message_makes_no_slow_site_and_many_do(worker: SlowSites) -> None:
    await asking(worker, "a")
    await worker.ended(SITE, owner="a", took=0.3, is_good=True)
    assert QUICK.total_seconds() > 0.3 + WEIGHT * LONG
    await worker.ended(SITE, owner="b", took=LONG, is_good=True)
    assert await asking(worker, "c") is Lane.USUAL
    await worker.ended(SITE, owner="d", took=LONG, is_good=True)
    assert await asking(worker, "e") is Lane.SLOW


async def test_the_slow_lane_keeps_the_others_told_and_takes_it_back(
    worker: SlowSites, other: SlowSites, clock: ManualClock, trials: MemoryTrials
) -> None:
    for number in range(20):
        await worker.ended(SITE, owner=f"{number}", took=LONG, is_good=True)
    assert trials.updates == 1, "once is enough"
    clock.advance(SLOW_FOR.total_seconds() * 0.6)
    await worker.ended(SITE, owner="x", took=LONG, is_good=True)
    clock.advance(SLOW_FOR.total_seconds() * 0.9)
    assert await asking(other, "a") is Lane.SLOW
    for number in range(60):
        await worker.ended(SITE, owner=f"{number}", took=0.2, is_good=True, lane=Lane.SLOW)
    assert worker.takes(SITE) < QUICK.total_seconds()
    clock.advance(30)
    assert await asking(other, "b") is Lane.USUAL


async def test_a_site_that_was_called_slow_for_nothing_is_taken_back_by_the_first_of_the_slow_lane(
    worker: SlowSites, other: SlowSites, trials: MemoryTrials, clock: ManualClock
) -> None:
    await asking(worker, "a")
    clock.advance(QUICK.total_seconds())
    for number in range(5):
        await other.ended(SITE, owner=f"{number}", took=0.3, is_good=True, lane=Lane.SLOW)
    assert trials.updates == 2, "told once"
    third = SlowSites(trials, clock, CountedMetrics())
    assert await asking(third, "b") is Lane.USUAL


async def test_who_has_no_time_to_wait_is_put_off(worker: SlowSites, clock: ManualClock) -> None:
    await asking(worker, "a")
    held = await asking(worker, "b", time_left=1.0)
    assert isinstance(held, HeldBack)
    assert held.until == clock.now() + QUICK


async def test_mail_goes_when_nobody_can_be_asked(clock: ManualClock, trials: MemoryTrials) -> None:
    faults, metrics = Faults(), CountedMetrics()
    worker = SlowSites(faults.wrap("trials", trials, ControlTrouble), clock, metrics)
    faults.fail("trials.begin", times=None)
    faults.fail("trials.end", times=None)
    assert await asyncio.gather(*(asking(worker, f"{n}") for n in range(5))) == [Lane.USUAL] * 5
    for number in range(5):
        await worker.ended(SITE, owner=f"{number}", took=LONG, is_good=True)
    assert metrics.counts["gates_unreachable"] >= 1
    assert await asking(worker, "x") is Lane.SLOW, "what it saw itself, it knows"
