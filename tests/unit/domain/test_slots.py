"""Slots: never more than rate * t + burst in any time, however they are reserved."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.gate_policy import RatePolicy
from empath.domain.slots import EPOCH, Pace, from_micros, is_good, reserve, to_micros

paces = st.builds(Pace, interval=st.integers(1, 10**9), burst=st.integers(1, 50))
asks = st.lists(st.tuples(st.integers(0, 5 * 10**9), st.integers(1, 20)), min_size=1, max_size=30)
"""How much later than the one before, in microseconds, and for how many."""


def _reserved(pace: Pace, asks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(when it was asked for, the slot) of every message."""
    tat, now, found = None, 0, []
    for later, count in asks:
        now += later
        slots, tat = reserve(tat, count, pace=pace, now=now)
        found += [(now, slot) for slot in slots]
    return found


@given(paces, asks)
def test_in_any_time_there_are_never_more_than_its_share_and_the_burst(
    pace: Pace, asks: list[tuple[int, int]]
) -> None:
    slots = sorted(slot for _, slot in _reserved(pace, asks))
    for first, start in enumerate(slots):
        for last in range(first, len(slots)):
            # From `start` to the slot `last`, both among them, within a time that is just longer.
            time = slots[last] - start
            assert last - first + 1 <= time // pace.interval + pace.burst


@given(paces, asks)
def test_no_slot_is_in_the_past_or_before_an_earlier_one(pace: Pace, asks: list[tuple[int, int]]) -> None:
    reserved = _reserved(pace, asks)
    assert all(slot >= now for now, slot in reserved)
    assert [slot for _, slot in reserved] == sorted(slot for _, slot in reserved)


@given(paces, st.one_of(st.none(), st.integers(0, 10**12)), st.integers(0, 10**12), st.integers(1, 40))
def test_many_in_one_update_are_as_many_one_by_one(pace: Pace, tat: int | None, now: int, count: int) -> None:
    together, after_all = reserve(tat, count, pace=pace, now=now)
    one_by_one, each = [], tat
    for _ in range(count):
        (slot,), each = reserve(each, 1, pace=pace, now=now)
        one_by_one.append(slot)
    assert (together, after_all) == (one_by_one, each)


@given(paces, asks, st.lists(st.integers(-(10**9), 10**9), min_size=30, max_size=30))
def test_clocks_that_differ_change_nothing_about_it(
    pace: Pace, asks: list[tuple[int, int]], skews: list[int]
) -> None:
    tat, now, slots = None, 10**10, []
    for (later, count), skew in zip(asks, skews, strict=False):
        now += later
        found, tat = reserve(tat, count, pace=pace, now=now + skew)
        slots += found
    slots.sort()
    for first, start in enumerate(slots):
        for last in range(first, len(slots)):
            assert last - first + 1 <= (slots[last] - start) // pace.interval + pace.burst


def test_after_a_pause_a_burst_goes_at_once_and_the_rest_in_step() -> None:
    slots, tat = reserve(0, 5, pace=Pace(interval=100, burst=3), now=1000)
    assert slots == [1000, 1000, 1000, 1100, 1200]
    assert tat == 1500


def test_a_slot_is_good_until_an_interval_after_it() -> None:
    pace = Pace(interval=1_000_000)
    slot = EPOCH + timedelta(seconds=100)
    assert is_good(slot, slot - timedelta(seconds=5), pace)
    assert is_good(slot, slot + timedelta(seconds=1), pace)
    assert not is_good(slot, slot + timedelta(seconds=1, microseconds=1), pace)


@given(st.datetimes(timezones=st.just(EPOCH.tzinfo)))
def test_an_instant_is_its_microseconds(instant: object) -> None:
    assert from_micros(to_micros(instant)) == instant  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limit", "interval"),
    [
        ("10/s", 100_000),
        ("60/min", 1_000_000),
        ("7/min", 8_571_429),
        ("1000/h", 3_600_000),
        ("1/d", 86_400_000_000),
    ],
)
def test_a_limit_is_an_interval_that_is_never_too_short(limit: str, interval: int) -> None:
    assert RatePolicy(limit=limit).pace == Pace(interval)


@given(st.integers(1, 9999), st.sampled_from(["s", "min", "h", "d"]), st.integers(1, 64), st.integers(0, 500))
def test_shards_together_are_no_faster_than_the_limit(
    messages: int, unit: str, shards: int, more: int
) -> None:
    rate = RatePolicy(limit=f"{messages}/{unit}", burst=shards + more, shards=shards)
    assert rate.pace.burst * shards <= rate.whole_pace.burst == rate.burst
    seconds = {"s": 1, "min": 60, "h": 3600, "d": 86_400}[unit]
    assert shards * 1_000_000 / rate.pace.interval <= messages / seconds * (1 + 1e-12)
