"""Backoff, jitter and expiry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from empath.domain.retry import RetryPolicy

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FAR = NOW + timedelta(days=5)


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 60), (2, 120), (3, 240), (11, 61_440), (12, 86_400), (10_000, 86_400)]
)
def test_the_delay_doubles_up_to_a_day(attempt: int, seconds: float) -> None:
    assert RetryPolicy().delay(attempt, 0.5) == timedelta(seconds=seconds)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 30))
def test_jitter_stays_within_a_fifth(random: float, attempt: int) -> None:
    planned = RetryPolicy(jitter=0).delay(attempt, 0.5)
    assert planned * 0.8 <= RetryPolicy().delay(attempt, random) <= planned * 1.2


def test_the_last_attempt_is_made_at_expiry_and_none_after_it() -> None:
    policy = RetryPolicy()
    soon = NOW + timedelta(seconds=30)
    assert policy.next_attempt(attempt=1, now=NOW, expires=soon, random=0.5) == soon
    assert policy.next_attempt(attempt=2, now=soon, expires=soon, random=0.5) is None


def test_attempts_are_bounded() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert policy.next_attempt(attempt=2, now=NOW, expires=FAR, random=0.5) is not None
    assert policy.next_attempt(attempt=3, now=NOW, expires=FAR, random=0.5) is None


@pytest.mark.parametrize(
    ("attempt", "hint", "seconds"),
    [
        (1, 300, 300),  # longer than usual
        (1, 60, 60),
        (1, 5, 15),  # not less than a quarter of the first delay
        (1, 86_400, 3600),  # not more than an hour
        (5, 300, 300),  # shorter than usual, asked for the first time
        (9, 7200, 15_360),  # nor is anybody visited in an hour who asks for two
        (12, 86_400, 86_400),
    ],
)
def test_a_hint_is_followed_within_bounds(attempt: int, hint: int, seconds: float) -> None:
    policy = RetryPolicy(jitter=0)
    assert policy.delay(attempt, 0.5, hint=hint) == timedelta(seconds=seconds)


def test_a_hint_that_was_not_enough_shortens_no_wait_again() -> None:
    policy = RetryPolicy(jitter=0)
    assert policy.delay(5, 0.5, hint=60, is_new=False) == policy.delay(5, 0.5)
    assert policy.delay(5, 0.5, hint=1800, is_new=False) == timedelta(seconds=1800)


def test_a_hint_counts_for_nothing_where_policy_does_not_listen() -> None:
    policy = RetryPolicy.model_validate({"jitter": 0, "hints": {"enabled": False}})
    assert policy.delay(1, 0.5, hint=300) == timedelta(seconds=60)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 30), st.integers(1, 10**10), st.booleans())
def test_nobody_is_tried_before_the_time_that_he_asked_for(
    random: float, attempt: int, hint: int, is_new: bool
) -> None:
    policy = RetryPolicy()
    delay = policy.delay(attempt, random, hint=hint, is_new=is_new)
    assert timedelta(seconds=min(hint, 3600)) <= delay <= timedelta(days=1) * 1.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_delay": 0},
        {"factor": 0.5},
        {"jitter": 1},
        {"max_attempts": 0},
        {"expiry": -1},
        {"first_delay": 600, "max_delay": 60},
        {"first_dealy": 60},
        {"hints": {"shortest": 0}},
        {"hints": {"shortest": 600, "longest": 60}},
        {"hints": {"longest": 90_000}},
    ],
)
def test_impossible_policies_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RetryPolicy.model_validate(wrong)
