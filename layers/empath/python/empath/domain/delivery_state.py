"""The states of a recipient's delivery, and the only way from one to another.

Rules, read off the table below:
1. SENT, FAILED, EXPIRED and CANCELLED are final: no event leads out of them.
2. A deferred recipient is queued again before its next attempt; only then can it be sent.
3. Expiry ends waiting, so only a deferred recipient expires.
4. Any open recipient can be held or cancelled; a held one is released into the queue.
5. An event that the table does not know is an error and changes nothing.

"Delivered" and "relayed" are Actions of RFC 3464 with exact meanings, hence SENT.
The ledger's DynamoDB conditions are derived from `sources`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

from empath.domain.errors import IllegalTransition


class State(StrEnum):
    QUEUED = "QUEUED"
    DEFERRED = "DEFERRED"
    HELD = "HELD"
    SENT = "SENT"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


class Event(StrEnum):
    ACCEPT = "accept"  # the next hop took responsibility
    DEFER = "defer"  # not now
    REFUSE = "refuse"  # not ever
    WAKE = "wake"  # the next attempt begins
    EXPIRE = "expire"  # waited long enough
    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"


TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.QUEUED, Event.ACCEPT): State.SENT,
        (State.QUEUED, Event.DEFER): State.DEFERRED,
        (State.QUEUED, Event.REFUSE): State.FAILED,
        (State.QUEUED, Event.HOLD): State.HELD,
        (State.QUEUED, Event.CANCEL): State.CANCELLED,
        (State.DEFERRED, Event.WAKE): State.QUEUED,
        (State.DEFERRED, Event.EXPIRE): State.EXPIRED,
        (State.DEFERRED, Event.HOLD): State.HELD,
        (State.DEFERRED, Event.CANCEL): State.CANCELLED,
        (State.HELD, Event.RELEASE): State.QUEUED,
        (State.HELD, Event.CANCEL): State.CANCELLED,
    }
)

OPEN = frozenset({State.QUEUED, State.DEFERRED, State.HELD})
FINAL = frozenset(State) - OPEN
LISTED = frozenset({State.DEFERRED, State.HELD, State.FAILED, State.EXPIRED})
"""The states that the ledger's sparse `listing` index shows."""

# A delivery of several recipients shows the state that most needs somebody's eye.
_PRECEDENCE = (
    State.QUEUED,
    State.DEFERRED,
    State.HELD,
    State.FAILED,
    State.EXPIRED,
    State.CANCELLED,
    State.SENT,
)
_RANK = {state: rank for rank, state in enumerate(_PRECEDENCE)}


def advance(state: State, event: Event) -> State:
    """The state after `event`; IllegalTransition when the table has none."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"{event} is not possible in state {state}") from None


def sources(event: Event) -> frozenset[State]:
    """The states in which `event` is possible."""
    return frozenset(state for state, known in TRANSITIONS if known is event)


def summarise(states: Iterable[State]) -> State:
    """One state for a whole delivery: open while any recipient is open."""
    try:
        return min(states, key=_RANK.__getitem__)
    except ValueError:
        raise ValueError("a delivery has at least one recipient") from None
