"""The rules that every single change of the ledger must keep, seen in its change log alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from empath.domain.delivery_state import FINAL, TRANSITIONS, Event, State
from empath.domain.reason import Reason
from empath.domain.records import MAX_ATTEMPTS_KEPT, DeliveryRecord, MessageRecord, OperationName

UNCLAIMED_OWNERS = ("resolve", "dead-letter", "gate", "operator")
"""Who writes outcomes that no claim led to."""

HELD = (Reason.CIRCUIT_OPEN, Reason.SLOT_RESERVED, Reason.RATE_LIMITED, Reason.CONNECTIONS_IN_USE)
OPERATED: Mapping[OperationName, Mapping[State, Collection[State]]] = {
    "hold": dict.fromkeys((State.QUEUED, State.DEFERRED), (State.HELD,)),
    "release": {State.HELD: (State.DEFERRED,)},
    "retry": dict.fromkeys((State.QUEUED, State.DEFERRED), (State.DEFERRED,)),
    "delete": dict.fromkeys((State.QUEUED, State.DEFERRED, State.HELD), (State.CANCELLED, State.FAILED)),
}
"""What an operator makes of a recipient."""

WAITING = (State.QUEUED, State.DEFERRED)
"""What a gate makes of a recipient that nobody tried yet."""

SKEW = timedelta(seconds=5)

Found = tuple[str, str]
"""The name of a broken invariant, and how it was broken."""


def _within_an_attempt() -> dict[State, frozenset[State]]:
    """What one write can make of a recipient: the events of an attempt, from waking to expiry."""
    events = (Event.WAKE, Event.ACCEPT, Event.DEFER, Event.REFUSE, Event.EXPIRE, Event.HOLD)
    reachable = {}
    for state in State:
        found, frontier = {state}, {state}
        while frontier:
            frontier = {
                TRANSITIONS[known, event]
                for known in frontier
                for event in events
                if (known, event) in TRANSITIONS
            } - found
            found |= frontier
        reachable[state] = frozenset(found)
    return reachable


REACHABLE = _within_an_attempt()


def is_operated(old: DeliveryRecord | None, new: DeliveryRecord) -> bool:
    """Whether a change is an operator's."""
    before = old.operation if old is not None else None
    return new.operation is not None and (before is None or before.id != new.operation.id)


def delivery_change(old: DeliveryRecord | None, new: DeliveryRecord, now: datetime) -> Iterator[Found]:
    """What is wrong with a change of a delivery at true time `now`."""
    if old is None:
        yield from _creation(new)
        return
    for address, known in old.recipients.items():
        after = new.recipients.get(address)
        if after is None:
            yield "transitions", f"recipient {address} vanished"
        elif after.state is not known.state and after.state not in _allowed(known.state, old, new):
            yield "transitions", f"{address} went from {known.state} to {after.state}"
        elif known.state in FINAL and after != known:
            yield "transitions", f"{address} changed after it was {known.state}"
        elif after.state is State.QUEUED and known.state is not State.QUEUED:
            yield "transitions", f"{address} was queued again without an attempt"
        elif after.reason is Reason.CONTENT_LOST:
            yield "raw objects", f"{address} failed because its raw object could not be found"
    for event, state in old.reports.items():
        if event not in new.reports or new.reports[event] != state != "owed":
            yield "reports", f"report {event} went from {state} to {new.reports.get(event)}"
    if (new.message_id, new.delivery, new.domain, new.siblings, new.expires) != (
        old.message_id,
        old.delivery,
        old.domain,
        old.siblings,
        old.expires,
    ):
        yield "transitions", "a delivery became another one"
    yield from _attempts(old, new, now)


def _allowed(state: State, old: DeliveryRecord, new: DeliveryRecord) -> Collection[State]:
    """What a change may make of a recipient."""
    if new.operation is not None and is_operated(old, new):
        return OPERATED[new.operation.action].get(state, ())
    return REACHABLE[state]


def _creation(new: DeliveryRecord) -> Iterator[Found]:
    if any(recipient.state not in REACHABLE[State.QUEUED] for recipient in new.recipients.values()):
        yield "transitions", "a recipient began in an impossible state"
    if new.attempts and not any(recipient.state in FINAL for recipient in new.recipients.values()):
        yield "transitions", "a new delivery has attempts but no outcome"


def _attempts(old: DeliveryRecord, new: DeliveryRecord, now: datetime) -> Iterator[Found]:
    # By number too: who writes without a claim does so under the same name each time.
    before = [(entry.attempt, entry.owner) for entry in old.attempts]
    after = [(entry.attempt, entry.owner) for entry in new.attempts]
    added = [entry for entry in after if entry not in before]
    kept = [entry for entry in after if entry in before]
    if kept != before[len(before) - len(kept) :] or (
        len(kept) < len(before) and len(after) < MAX_ATTEMPTS_KEPT
    ):
        yield "fencing", "attempts were forgotten or changed places"
    if new.attempt == old.attempt:
        yield from _held_back(old, new, now)
        if added:
            yield from _claim(old, new, added, now)
        return
    if new.attempt != old.attempt + 1:
        yield "transitions", f"attempt {old.attempt} was followed by {new.attempt}"
    last = new.attempts[-1] if new.attempts else None
    if last is None or last.duration is None or last.attempt != old.attempt:
        yield "transitions", f"the outcome of attempt {old.attempt} is not in its attempts"
    elif added:
        if len(added) > 1 or last.owner not in UNCLAIMED_OWNERS:
            yield "fencing", f"{last.owner} recorded an outcome without a claim"
        elif old.lease is not None and old.lease.until > now + SKEW:
            yield "fencing", f"{last.owner} wrote an outcome while {old.lease.owner} held the lease"
    elif old.lease is None or last.owner != old.lease.owner:
        holder = old.lease.owner if old.lease else "nobody"
        yield "fencing", f"{last.owner} recorded an outcome although {holder} holds the lease"
    if any(entry.duration is None and not entry.ambiguous for entry in new.attempts):
        yield "ambiguity", "an attempt that nobody recorded is not marked as ambiguous"


def _held_back(old: DeliveryRecord, new: DeliveryRecord, now: datetime) -> Iterator[Found]:
    """Without an attempt only operators change recipients, and gates those that nobody tried yet."""
    is_leased = old.lease is not None and old.lease.until > now + SKEW
    if is_operated(old, new):
        if is_leased:
            yield "fencing", "an operator changed what a worker held the lease of"
        return
    changed = {
        (known.state, new.recipients[address].state)
        for address, known in old.recipients.items()
        if address in new.recipients and new.recipients[address].state is not known.state
    }
    if changed and not (changed == {WAITING} and new.reason in HELD):
        yield "transitions", "a recipient changed without an attempt"
    elif changed and is_leased:
        yield "fencing", "a gate held back what a worker held the lease of"


def _claim(
    old: DeliveryRecord, new: DeliveryRecord, added: Sequence[object], now: datetime
) -> Iterator[Found]:
    claim = new.attempts[-1]
    if len(added) > 1 or new.lease is None or claim.owner != new.lease.owner:
        yield "fencing", "a claim without its lease"
    if claim.attempt != new.attempt:
        yield "fencing", f"attempt {claim.attempt} was claimed when {new.attempt} was due"
    if old.status in FINAL:
        yield "fencing", f"a delivery was claimed that is {old.status}"
    if old.lease is not None and old.lease.until > now + SKEW:
        yield "fencing", f"{claim.owner} claimed under the live lease of {old.lease.owner}"


def message_change(old: MessageRecord | None, new: MessageRecord) -> Iterator[Found]:
    """What is wrong with a change of a message."""
    if old is None:
        return
    if not old.settled <= new.settled:
        yield "transitions", "a settled delivery was forgotten"
    if old.forget_at is not None and new.forget_at != old.forget_at:
        yield "transitions", "a message was closed twice"
    if new.forget_at is not None and not new.is_settled:
        yield "conservation", "a message was closed before all its deliveries were settled"
