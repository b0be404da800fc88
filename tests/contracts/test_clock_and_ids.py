"""The Clock and IdSource contracts."""

from __future__ import annotations

import re
from datetime import UTC, timedelta

import pytest

from empath.ports import Clock, IdSource
from empath.system import SystemClock, UlidSource
from empath.testing.clock import ManualClock, SequentialIds

# ULID: 26 characters of Crockford's base 32, the first at most 7 (128 bits).
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


@pytest.fixture(params=["memory", "system"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return ManualClock(auto=True) if request.param == "memory" else SystemClock()


@pytest.fixture(params=["memory", "system"])
def ids(request: pytest.FixtureRequest) -> IdSource:
    return SequentialIds() if request.param == "memory" else UlidSource()


def test_the_time_is_in_utc(clock: Clock) -> None:
    assert clock.now().tzinfo is UTC


async def test_sleeping_lasts_as_long_as_it_says(clock: Clock) -> None:
    before = clock.now()
    await clock.sleep(0.02)
    assert timedelta(seconds=0.02) <= clock.now() - before < timedelta(seconds=5)


@pytest.mark.parametrize("seconds", [0, -1, -0.001])
async def test_sleeping_for_nothing_or_less_returns_at_once(clock: Clock, seconds: float) -> None:
    before = clock.now()
    await clock.sleep(seconds)
    assert clock.now() - before < timedelta(seconds=1)


def test_ids_are_ulids_unique_and_sorted_by_their_making(ids: IdSource) -> None:
    made = [ids.new_id() for _ in range(5000)]
    assert all(ULID.fullmatch(new_id) for new_id in made)
    assert len(set(made)) == len(made)
    assert made == sorted(made)


def test_random_numbers_are_in_the_unit_interval_and_differ(ids: IdSource) -> None:
    numbers = [ids.random() for _ in range(1000)]
    assert all(0 <= number < 1 for number in numbers)
    assert len(set(numbers)) > 990


def test_ids_of_two_processes_differ() -> None:
    assert {UlidSource().new_id() for _ in range(1000)}.__len__() == 1000


def test_a_ulid_begins_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # The example of the ULID specification: 01ARYZ6S41 is 1469918176385.
    monkeypatch.setattr("time.time_ns", lambda: 1_469_918_176_385_000_000)
    assert UlidSource().new_id().startswith("01ARYZ6S41")


def test_ids_rise_also_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    source = UlidSource()
    monkeypatch.setattr("time.time_ns", lambda: 1_800_000_000_000_000_000)
    first = source.new_id()
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    assert source.new_id() > first


def test_the_same_seed_gives_the_same_ids_and_numbers() -> None:
    one, two = SequentialIds(7), SequentialIds(7)
    assert [(one.new_id(), one.random()) for _ in range(5)] == [
        (two.new_id(), two.random()) for _ in range(5)
    ]
