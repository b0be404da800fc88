"""Which reports an attempt owes, and about whom: the rules of RFC 3461 §4.1 and §5.2 as one table.

    what became of the recipient              action    owed if NOTIFY
    failed, or given up                       failed    has FAILURE, or was not given
    deferred, and late for the first time     delayed   has DELAY, or was not given
    taken by a next hop that has DSN          -         (told, so the next hop answers for it)
    taken by a next hop without DSN           relayed   has SUCCESS
    arrived where its way ends                delivered has SUCCESS

An event is named `<action>-<attempt>`; all recipients of a delivery that an attempt did the same to share it,
and its report. Nothing here depends on when it is asked: who an event is about stays the same while its
delivery goes on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from empath.domain.delivery_state import State
from empath.domain.records import RecipientRecord
from empath.dsn.model import Action

Notify = tuple[str, ...] | None

_ASKED_FOR = {
    Action.FAILED: "FAILURE",
    Action.DELAYED: "DELAY",
    Action.RELAYED: "SUCCESS",
    Action.DELIVERED: "SUCCESS",
    Action.EXPANDED: "SUCCESS",
}
_UNASKED = frozenset({Action.FAILED, Action.DELAYED})
"""What a sender hears of who said nothing (RFC 3461 §4.1: FAILURE, and DELAY if we like)."""

_NAME = re.compile(r"(?P<action>[a-z]+)-(?P<attempt>[0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class ReportEvent:
    action: Action
    attempt: int

    def __str__(self) -> str:
        return f"{self.action}-{self.attempt}"

    @classmethod
    def parse(cls, name: str) -> ReportEvent:
        """The inverse of `str`; ValueError for anything else."""
        match = _NAME.fullmatch(name)
        if match is None or match["action"] not in set(Action):
            raise ValueError(f"unknown report event {name!r:.40}")
        return cls(Action(match["action"]), int(match["attempt"]))

    def is_about(self, recipient: RecipientRecord) -> bool:
        """Whether the recipient belongs into this event's report."""
        return _wants(self.action, recipient.notify) and self.attempt == _attempts(recipient).get(self.action)


def owed_events(recipients: Mapping[str, RecipientRecord], attempt: int) -> tuple[str, ...]:
    """The events that `attempt` brought about, gravest first."""
    events = (ReportEvent(action, attempt) for action in Action)
    return tuple(str(event) for event in events if any(map(event.is_about, recipients.values())))


def hears_of_delay(recipient: RecipientRecord) -> bool:
    """Whether a sender is still to be told that this recipient is late."""
    return (
        recipient.state is State.DEFERRED
        and recipient.delay_reported is None
        and _wants(Action.DELAYED, recipient.notify)
    )


def _wants(action: Action, notify: Notify) -> bool:
    return action in _UNASKED if notify is None else _ASKED_FOR[action] in notify


def _attempts(recipient: RecipientRecord) -> Mapping[Action, int]:
    """At which attempt what happened to a recipient that is worth a report."""
    happened = {} if recipient.delay_reported is None else {Action.DELAYED: recipient.delay_reported}
    if recipient.state in (State.FAILED, State.EXPIRED):
        happened[Action.FAILED] = recipient.attempt
    elif recipient.state is State.SENT and not recipient.passed_on:
        happened[Action.DELIVERED if recipient.delivered else Action.RELAYED] = recipient.attempt
    return happened
