"""Backoff, jitter and expiry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

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
    "wrong",
    [
        {"first_delay": 0},
        {"factor": 0.5},
        {"jitter": 1},
        {"max_attempts": 0},
        {"expiry": -1},
        {"first_delay": 600, "max_delay": 60},
        {"first_dealy": 60},
    ],
)
def test_impossible_policies_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        RetryPolicy.model_validate(wrong)
