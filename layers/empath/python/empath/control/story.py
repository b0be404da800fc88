"""What comes next for a delivery, and when, told from its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from empath.domain.circuit import Circuit
from empath.domain.delivery_state import State
from empath.domain.reason import Reason
from empath.domain.records import Attempt, DeliveryRecord, Operation, ReportState

NextStep = Literal["attempt_running", "attempt", "release", "report", "nothing"]


@dataclass(frozen=True, slots=True)
class Next:
    """`at` is when it is due; None when that depends on somebody, or nothing comes."""

    step: NextStep
    at: datetime | None
    text: str


HELD_BACK: Mapping[Reason, str] = {
    Reason.FROZEN: "mail to its domain is frozen (`empathctl queue unfreeze`)",
    Reason.CIRCUIT_OPEN: "its next hop failed too often and is let alone (circuit open)",
    Reason.SLOT_RESERVED: "its slot in the rate limit",
    Reason.RATE_LIMITED: "the rate limit has no slot for it before it expires",
    Reason.CONNECTIONS_IN_USE: "all connections to its next hop that policy allows are in use",
}
"""By which gate what waits was held back (docs/decisions/050-gates.md)."""


def _blocked(record: DeliveryRecord, now: datetime, circuits: Mapping[str, Circuit]) -> datetime | None:
    circuit = circuits.get(record.site) if record.site else None
    return None if circuit is None else circuit.blocked_until(now)


def next_of(record: DeliveryRecord, now: datetime, circuits: Mapping[str, Circuit] | None = None) -> Next:
    """The next thing that will happen to this delivery as things stand.

    With `circuits`, those that are not closed, also what holds back a delivery that was never tried.
    """
    if record.lease is not None and record.lease.until > now:
        return Next("attempt_running", None, f"attempt {record.attempt} is under way")
    match record.status:
        case State.QUEUED if blocked := _blocked(record, now, circuits or {}):
            words = HELD_BACK[Reason.CIRCUIT_OPEN]
            return Next("attempt", blocked, f"attempt {record.attempt}, not before then: {words}")
        case State.QUEUED:
            return Next("attempt", record.job_at, f"attempt {record.attempt}, when a worker is free")
        case State.DEFERRED:
            last = record.next_attempt_at is not None and record.next_attempt_at >= record.expires
            which = "the last attempt" if last else f"attempt {record.attempt}"
            held = HELD_BACK.get(record.reason) if record.reason else None
            return Next("attempt", record.next_attempt_at, f"{which}: {held}" if held else which)
        case State.HELD:
            return Next("release", None, "nothing until somebody releases it")
    if record.owes_reports:
        return Next("report", None, "a report to the sender")
    return Next("nothing", None, "nothing more")


def told_operation(operation: Operation) -> str:
    """Who did what, and when."""
    return f"{operation.action} by {operation.operator} at {operation.at:%Y-%m-%d %H:%M:%S} UTC"


_REPORTS: Mapping[ReportState, str] = {
    "owed": "owed",
    "sent": "sent",
    "switched_off": "not sent: policy switches reports off",
    "automatic": "not sent: a machine made the message, and nobody asked for a report",
    "over_limit": "not sent: its recipient has had as many reports in that hour as policy allows",
}


def told_report(state: ReportState) -> str:
    """What became of a report, in a few words."""
    return _REPORTS[state]


def told_attempt(attempt: Attempt, record: DeliveryRecord, now: datetime) -> str:
    """How an attempt ended, in a few words."""
    if attempt.duration is None:
        running = record.lease is not None and record.lease.until > now
        if running and attempt is record.attempts[-1]:
            return "under way"
        return "no record: its worker died, and the message may have been sent"
    words = str(attempt.reply) if attempt.reply is not None else "no reply"
    if attempt.reason is not None:
        words = f"{words} ({attempt.reason.value})"
    if attempt.retry_after is not None:
        words = f"{words}, which asks for {attempt.retry_after} s"
    return f"{words}, and the message may have been sent" if attempt.ambiguous else words
