"""A clock that a test moves."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from empath.testing.clock import START, ManualClock


def since_start(clock: ManualClock) -> float:
    return (clock.now() - START).total_seconds()


async def test_a_sleeper_wakes_when_time_has_come_that_far_and_not_before() -> None:
    clock = ManualClock()
    sleeper = asyncio.create_task(clock.sleep(10))
    await asyncio.sleep(0)
    clock.advance(9.9)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(0.1)
    await sleeper


async def test_run_for_lets_every_sleeper_see_its_own_moment_and_sleep_again() -> None:
    clock = ManualClock()
    seen: list[tuple[str, float]] = []

    async def tick(name: str, every: float) -> None:
        while True:
            await clock.sleep(every)
            seen.append((name, since_start(clock)))

    tasks = [asyncio.create_task(tick("a", 2)), asyncio.create_task(tick("b", 3))]
    await clock.run_for(6)
    for task in tasks:
        task.cancel()
    assert sorted(seen, key=lambda event: event[1]) == seen
    assert sorted(seen) == [("a", 2), ("a", 4), ("a", 6), ("b", 3), ("b", 6)]
    assert since_start(clock) == 6


async def test_a_sleeper_that_was_cancelled_holds_nothing_up() -> None:
    clock = ManualClock()
    sleeper = asyncio.create_task(clock.sleep(1))
    await asyncio.sleep(0)
    sleeper.cancel()
    await clock.run_for(5)
    assert clock.next_wake is None


async def test_an_automatic_clock_moves_by_what_is_slept() -> None:
    clock = ManualClock(auto=True)
    await clock.sleep(3600)
    assert since_start(clock) == 3600


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        ManualClock().advance_to(datetime(2000, 1, 1, tzinfo=START.tzinfo))
