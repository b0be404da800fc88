"""Lines: who gets a slot now, who a place, and that all slots together never exceed the limit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.line import AHEAD, ORDER, Ask, Book, Turn, take_turns
from empath.domain.slots import Pace, to_micros

SECOND = 1_000_000
EACH_SECOND = Pace(SECOND)

paces = st.builds(Pace, interval=st.integers(1000, 90 * SECOND), burst=st.integers(1, 20))
asks = st.lists(
    st.tuples(
        st.integers(0, 5 * SECOND),  # how much later than the one before
        st.integers(-2 * SECOND, 2 * SECOND),  # how far the clock of who asks is off
        st.sampled_from(ORDER),
        st.integers(1, 12),
        st.one_of(st.none(), st.integers(-3 * SECOND, 3 * SECOND)),  # from now to the place, if there is one
    ),
    min_size=1,
    max_size=40,
)


def micros(turns: list[Turn], *, are_slots: bool) -> list[int]:
    return [to_micros(turn.at) for turn in turns if turn.is_slot is are_slots]


def run(pace: Pace, taken: list[tuple[int, int, str, int, int | None]]) -> list[tuple[Ask, list[Turn], Book]]:
    """Every ask with its turns, and the book before it."""
    book, now, found = Book(), 10**12, []
    for later, skew, priority, count, place in taken:
        now += later
        own = now + skew
        ask = Ask(priority, count, pace, own, None if place is None else own + place)  # type: ignore[arg-type]
        before = book
        turns, book = take_turns(book, ask)
        found.append((ask, turns, before))
    return found


@given(paces, asks)
def test_slots_of_all_priorities_together_are_never_more_than_the_limit(
    pace: Pace, taken: list[tuple[int, int, str, int, int | None]]
) -> None:
    slots = sorted(slot for _, turns, _ in run(pace, taken) for slot in micros(turns, are_slots=True))
    for first, start in enumerate(slots):
        for last in range(first, len(slots)):
            assert last - first + 1 <= (slots[last] - start) // pace.interval + pace.burst


@given(paces, asks)
def test_everybody_has_a_turn_and_slots_are_near_and_come_first(
    pace: Pace, taken: list[tuple[int, int, str, int, int | None]]
) -> None:
    for ask, turns, _ in run(pace, taken):
        assert len(turns) == ask.count
        assert [turn.is_slot for turn in turns] == sorted((turn.is_slot for turn in turns), reverse=True)
        assert all(slot <= ask.horizon for slot in micros(turns, are_slots=True))
        places = micros(turns, are_slots=False)
        assert all(place >= ask.now for place in places)
        assert all(later - earlier == pace.interval for earlier, later in pairwise(places))


@given(paces, asks)
def test_a_place_is_behind_every_line_that_goes_before(
    pace: Pace, taken: list[tuple[int, int, str, int, int | None]]
) -> None:
    for ask, turns, before in run(pace, taken):
        for place in micros(turns, are_slots=False)[:1]:
            assert all(place >= before.ends.get(line, 0) for line in ask.lines)


@given(paces, asks)
def test_who_comes_new_gets_no_slot_while_a_line_that_goes_before_is_long(
    pace: Pace, taken: list[tuple[int, int, str, int, int | None]]
) -> None:
    for ask, turns, before in run(pace, taken):
        if ask.place is None and any(before.ends.get(line, 0) > ask.horizon for line in ask.lines):
            assert not micros(turns, are_slots=True)


@pytest.mark.parametrize("priority", ORDER)
@pytest.mark.parametrize("interval", [SECOND // 100, SECOND // 10, SECOND, 60 * SECOND])
def test_who_stands_in_line_undisturbed_gets_the_slot_of_the_place_at_the_first_return(
    priority: str, interval: int
) -> None:
    ask = Ask(priority, 50, Pace(interval), 0)  # type: ignore[arg-type]
    turns, book = take_turns(Book(), ask)
    for place in micros(turns, are_slots=False):
        (turn,), book = take_turns(book, replace(ask, count=1, now=place - 2 * SECOND, place=place))
        assert (turn.is_slot, to_micros(turn.at)) == (True, place)


def test_the_higher_reserves_where_the_lower_may_not() -> None:
    assert [AHEAD[line] for line in ORDER] == sorted(AHEAD.values(), reverse=True)
    book = Book(tat=AHEAD["bulk"] + 1)
    for priority, is_slot in (("bulk", False), ("normal", True), ("high", True)):
        ((turn,), _) = take_turns(book, Ask(priority, 1, EACH_SECOND, 0))  # type: ignore[arg-type]
        assert turn.is_slot is is_slot


def test_many_at_once_get_what_is_near_and_the_rest_stands_in_line() -> None:
    turns, book = take_turns(Book(), Ask("normal", 10, Pace(SECOND // 2, burst=2), 0))
    # Two at once, then one in each half second up to three seconds.
    assert micros(turns, are_slots=True) == [0, *range(0, 3 * SECOND + 1, SECOND // 2)]
    assert micros(turns, are_slots=False) == [3 * SECOND + SECOND // 2, 4 * SECOND]
    assert book.ends == {"normal": 4 * SECOND + SECOND // 2}
