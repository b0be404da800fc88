"""What an attempt's outcomes make of a delivery: new states, the next attempt, the reports owed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from empath.domain.classification import classify
from empath.domain.delivery_state import Event, State, advance
from empath.domain.outcome import RecipientOutcome
from empath.domain.reason import Reason
from empath.domain.records import MAX_ATTEMPTS_KEPT, Attempt, DeliveryRecord, RecipientRecord
from empath.domain.retry import RetryPolicy
from empath.domain.retry_hint import wait_asked_for
from empath.pipeline.report_events import hears_of_delay, owed_events

RETENTION = timedelta(days=30)
"""How long the ledger remembers what is settled. Longer than any queue keeps a job (14 days), so that
a late copy of a job always finds the record that makes it harmless."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """Everything that one attempt brought: an outcome for each recipient that it tried."""

    outcomes: Mapping[str, RecipientOutcome]
    next_hop: str | None = None
    tls: str | None = None
    ambiguous: bool = False
    passed_on: frozenset[str] = frozenset()
    """Recipients whose NOTIFY the next hop was told."""
    dnssec: bool = False
    is_final: bool = False
    """What was sent has arrived: no other relay is to follow."""

    @classmethod
    def for_all(cls, record: DeliveryRecord, outcome: RecipientOutcome) -> AttemptResult:
        """The same outcome for every recipient that waits for an attempt."""
        return cls(dict.fromkeys(waiting_recipients(record), outcome))


@dataclass(frozen=True, slots=True)
class Conclusion:
    record: DeliveryRecord
    owes: tuple[str, ...]
    """New report events of this attempt."""


def waiting_recipients(record: DeliveryRecord) -> list[str]:
    """The addresses that an attempt has to try."""
    return [address for address, recipient in record.recipients.items() if recipient.state is State.QUEUED]


def conclude(
    record: DeliveryRecord,
    result: AttemptResult,
    *,
    now: datetime,
    policy: RetryPolicy,
    random: float,
    reportable: bool,
    patience: float = 1,
) -> Conclusion:
    """Apply an attempt's outcomes to the record that its claim returned (see `begin_attempt`).

    `reportable` is False for a null reverse-path, which never gets a report (RFC 5321 §6.1).
    `patience` stretches the delay before the next attempt. Raises IllegalTransition for an outcome of
    a recipient that no attempt was due for.
    """
    recipients = dict(record.recipients)
    for address, outcome in result.outcomes.items():
        recipients[address] = _after(recipients[address], outcome, record.attempt, result, address)

    next_attempt_at = None
    hint = _wait_asked_for(result) if policy.hints.enabled else None
    if any(recipient.state is State.DEFERRED for recipient in recipients.values()):
        next_attempt_at = _stretched(policy, patience).next_attempt(
            attempt=record.attempt,
            now=now,
            expires=record.expires,
            random=random,
            hint=hint,
            is_new=not any(attempt.retry_after for attempt in record.attempts),
        )
        if next_attempt_at is None:
            given_up = Reason.EXPIRED if now >= record.expires else Reason.ATTEMPTS_USED_UP
            recipients = {address: _expired(known, given_up) for address, known in recipients.items()}

    if reportable and policy.is_late(received_at=record.received_at, now=now):
        recipients = {address: _late(known, record.attempt) for address, known in recipients.items()}
    owes = owed_events(recipients, record.attempt) if reportable else ()
    concluded = record.model_copy(
        update={
            "recipients": recipients,
            "attempt": record.attempt + 1,
            "attempts": _with_result(record.attempts, result, now, hint)[-MAX_ATTEMPTS_KEPT:],
            "next_attempt_at": next_attempt_at,
            "job_at": None,
            "lease": None,
            "waited": None,
            "reason": _reason(recipients),
            "reports": {**record.reports, **dict.fromkeys(owes, "owed")},
        }
    )
    if concluded.is_final:
        concluded = concluded.model_copy(update={"forget_at": now + RETENTION})
    return Conclusion(concluded, owes)


def _wait_asked_for(result: AttemptResult) -> int | None:
    """The longest wait that the next hop asked for, in what it said itself."""
    return max(
        (
            wait
            for outcome in result.outcomes.values()
            if outcome.event is Event.DEFER and outcome.reason is Reason.NEXT_HOP_REPLY
            if (wait := wait_asked_for(outcome.reply.text)) is not None
        ),
        default=None,
    )


def _stretched(policy: RetryPolicy, patience: float) -> RetryPolicy:
    """The same policy with its delays `patience` times as long."""
    if patience == 1:
        return policy
    return policy.model_copy(
        update={"first_delay": policy.first_delay * patience, "max_delay": policy.max_delay * patience}
    )


def _after(
    recipient: RecipientRecord, outcome: RecipientOutcome, attempt: int, result: AttemptResult, address: str
) -> RecipientRecord:
    state = advance(recipient.state, outcome.event)
    return recipient.model_copy(
        update={
            "state": state,
            "reply": outcome.reply,
            "reason": outcome.reason,
            "next_hop": result.next_hop,
            "attempt": attempt,
            "passed_on": (state is State.SENT and address in result.passed_on) or None,
            "delivered": (state is State.SENT and result.is_final) or None,
        }
    )


def _late(recipient: RecipientRecord, attempt: int) -> RecipientRecord:
    """The recipient once its sender is told that it is late, if that is still to be done."""
    if not hears_of_delay(recipient):
        return recipient
    return recipient.model_copy(update={"delay_reported": attempt})


def _expired(recipient: RecipientRecord, reason: Reason) -> RecipientRecord:
    if recipient.state is not State.DEFERRED:
        return recipient
    return recipient.model_copy(update={"state": advance(recipient.state, Event.EXPIRE), "reason": reason})


def _reason(recipients: Mapping[str, RecipientRecord]) -> Reason | None:
    """Why the delivery is not simply sent, if so."""
    return next((known.reason for known in recipients.values() if known.state is not State.SENT), None)


def _with_result(
    attempts: tuple[Attempt, ...], result: AttemptResult, now: datetime, hint: int | None
) -> tuple[Attempt, ...]:
    *earlier, current = attempts
    told = _most_telling(result)
    finished = current.model_copy(
        update={
            "duration": max((now - current.started).total_seconds(), 0.0),
            "next_hop": result.next_hop,
            "reply": told.reply if told else None,
            "reason": told.reason if told else None,
            "trouble": classify(told.reply, told.reason) if told and told.event is not Event.ACCEPT else None,
            "retry_after": hint,
            "tls": result.tls,
            "dnssec": result.dnssec or None,
            "ambiguous": result.ambiguous,
        }
    )
    return (*earlier, finished)


def _most_telling(result: AttemptResult) -> RecipientOutcome | None:
    """The outcome that stands for the attempt: what went wrong before what went well."""
    outcomes = list(result.outcomes.values())
    return next((outcome for outcome in outcomes if outcome.event is not Event.ACCEPT), None) or (
        outcomes[0] if outcomes else None
    )


def unclaimed_attempt(record: DeliveryRecord, *, now: datetime, owner: str) -> DeliveryRecord:
    """`record` as if an attempt had just begun: for outcomes that no claim led to."""
    entry = Attempt(attempt=record.attempt, started=now, owner=owner)
    return record.model_copy(update={"attempts": (*record.attempts, entry)}).begin_attempt()
