"""Which deliveries a command about the queue means: those of a message, or those that match."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from empath.control.dns_reading import read_domain, read_name
from empath.control.errors import BadUsage
from empath.control.queue_reading import read_statuses
from empath.domain.delivery_state import LISTED, State
from empath.domain.reason import Reason
from empath.domain.records import OperationName
from empath.ports import Listed

OPERABLE: Mapping[OperationName, frozenset[State]] = {
    "hold": frozenset({State.DEFERRED}),
    "release": frozenset({State.HELD}),
    "retry": frozenset({State.DEFERRED}),
    "delete": frozenset({State.DEFERRED, State.HELD}),
}
"""What an operation in bulk can find: the listing index shows nothing that is on its way."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What has to be true of a delivery; None is true of all."""

    statuses: tuple[State, ...]
    domain: str | None = None
    tenant: str | None = None
    reason: Reason | None = None
    due_after: datetime | None = None

    def matches(self, row: Listed) -> bool:
        if self.domain is not None and row.key.delivery.split("#")[1] != self.domain:
            return False
        if self.tenant is not None and row.tenant != self.tenant:
            return False
        if self.due_after is not None and (row.next_attempt_at or row.at) <= self.due_after:
            return False
        return self.reason is None or row.reason == self.reason


def read_selection(
    statuses: Sequence[str],
    domain: str | None,
    tenant: str | None,
    reason: str | None,
    *,
    possible: frozenset[State] = LISTED,
) -> Selection:
    """A selection out of words; without a status, all that are possible. Raises BadUsage."""
    chosen = read_statuses(statuses) if statuses else sorted(possible)
    for state in chosen:
        if state not in possible:
            names = ", ".join(sorted(name.lower() for name in possible))
            raise BadUsage(f"--status {state.lower()}: this is for what is {names}")
    return Selection(tuple(chosen), _domain(domain), tenant, _reason(reason))


def due_later(selection: Selection, now: datetime) -> Selection:
    """Of the same, what is not due by `now`."""
    return replace(selection, due_after=now)


def of_domain(domain: str | None) -> Callable[[str], bool]:
    """Whether a delivery (its sort key) goes to a domain; any does to none."""
    wanted = _domain(domain)
    return lambda delivery: wanted is None or delivery.split("#")[1] == wanted


def _domain(text: str | None) -> str | None:
    """As deliveries name it: in A-labels, or an address literal."""
    if text is None:
        return None
    domain = read_domain(text)
    return domain if domain.startswith("[") else read_name(domain)


def _reason(text: str | None) -> Reason | None:
    if text is None:
        return None
    try:
        return Reason(text.strip().lower())
    except ValueError:
        raise BadUsage(f"--reason {text!r} is no reason; there are {', '.join(sorted(Reason))}") from None
