"""ULIDs: text order is time order, and the text leads back to the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.ulid import decode_ulid, encode_ulid

milliseconds = st.integers(0, 2**48 - 1)
randomness = st.integers(0, 2**80 - 1)


@given(milliseconds, randomness)
def test_the_text_leads_back_to_the_numbers(time: int, random: int) -> None:
    assert decode_ulid(encode_ulid(time, random)) == (time, random)


@given(milliseconds, randomness, milliseconds, randomness)
def test_text_order_is_time_order(time: int, random: int, later: int, other: int) -> None:
    pair = (time, random), (later, other)
    assert ((encode_ulid(*pair[0])) < encode_ulid(*pair[1])) == (pair[0] < pair[1])


def test_the_example_of_the_specification() -> None:
    assert decode_ulid("01ARYZ6S41TSV4RRFFQ69G5FAV")[0] == 1469918176385


@pytest.mark.parametrize(
    "text", ["", "01ARYZ6S41", "81ARYZ6S41TSV4RRFFQ69G5FAV", "01ARYZ6S41TSV4RRFFQ69G5FAU"]
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a ULID"):
        decode_ulid(text)
