"""The delivery state table, held over the full product of states and events."""

from __future__ import annotations

import itertools

import pytest

from empath.domain.delivery_state import (
    FINAL,
    LISTED,
    OPEN,
    TRANSITIONS,
    Event,
    State,
    advance,
    sources,
    summarise,
)
from empath.domain.errors import IllegalTransition

LEGAL = {
    "QUEUED": {
        "accept": "SENT",
        "defer": "DEFERRED",
        "refuse": "FAILED",
        "hold": "HELD",
        "cancel": "CANCELLED",
    },
    "DEFERRED": {"wake": "QUEUED", "expire": "EXPIRED", "hold": "HELD", "cancel": "CANCELLED"},
    "HELD": {"release": "QUEUED", "cancel": "CANCELLED"},
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_of_state_and_event_is_either_in_the_table_or_an_error(state: State, event: Event) -> None:
    expected = LEGAL.get(state, {}).get(event)
    if expected is None:
        with pytest.raises(IllegalTransition, match=f"{event} is not possible in state {state}"):
            advance(state, event)
    else:
        assert advance(state, event) == expected


def test_no_event_leads_out_of_a_final_state() -> None:
    assert {state for state, _ in TRANSITIONS} == OPEN
    assert set(State) == OPEN | FINAL
    assert not OPEN & FINAL


def test_sources_are_the_states_that_know_an_event() -> None:
    assert sources(Event.CANCEL) == {State.QUEUED, State.DEFERRED, State.HELD}
    assert sources(Event.EXPIRE) == {State.DEFERRED}


def test_the_listing_leaves_out_what_costs_the_happy_path() -> None:
    assert {State.DEFERRED, State.HELD, State.FAILED, State.EXPIRED} == LISTED


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        ([State.SENT], State.SENT),
        ([State.SENT, State.FAILED], State.FAILED),
        ([State.SENT, State.EXPIRED, State.CANCELLED], State.EXPIRED),
        ([State.FAILED, State.DEFERRED], State.DEFERRED),
        ([State.DEFERRED, State.QUEUED], State.QUEUED),
        ([State.HELD, State.SENT], State.HELD),
    ],
)
def test_a_delivery_is_open_while_any_recipient_is(states: list[State], whole: State) -> None:
    assert summarise(states) is whole
    assert (whole in OPEN) == any(state in OPEN for state in states)


def test_a_delivery_without_recipients_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one recipient"):
        summarise([])
