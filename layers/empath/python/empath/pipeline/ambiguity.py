"""Mail that a next hop may have taken although nobody said so: tried again, held or given up, as policy says.

    claim -> ... -> mark -> last octets -> reply -> record

An attempt is in doubt when it was marked and never recorded (its worker died in between), or when it was
recorded as ambiguous (the reply was lost, or none came). A death before the mark is none: nothing that could
make the next hop take the message had left. The mark costs a write, so it is made only where policy holds or
gives up; `retry` sends the message again, which is what RFC 5321 §4.5.3.2.6 expects of everybody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from empath.domain.delivery_state import Event
from empath.domain.outcome import Failed, Held, RecipientOutcome
from empath.domain.policy import OnAmbiguous
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord
from empath.domain.reply import Reply
from empath.pipeline.conclude import AttemptResult, waiting_recipients
from empath.ports import Clock, Ledger

_UNHEARD = frozenset({Reason.CONNECTION_LOST, Reason.TIMEOUT, Reason.PROTOCOL_ERROR})
"""What recipients in doubt are deferred for; whom the next hop answered for has its reply."""

_WORDS = "The message may have arrived: it was handed over, and the next hop's answer to it was never heard."


def marker(
    ledger: Ledger, clock: Clock, record: DeliveryRecord, *, owner: str, policy: OnAmbiguous
) -> Callable[[], Awaitable[None]] | None:
    """`before_commit` of the transaction of a claimed record; it raises LeaseLost and LedgerTrouble."""
    if policy == "retry":
        return None
    is_marked = False

    async def mark() -> None:
        nonlocal is_marked
        if not is_marked:
            await ledger.mark_committing(record, owner=owner, now=clock.now())
            is_marked = True

    return mark


def without_attempt(record: DeliveryRecord, policy: OnAmbiguous) -> AttemptResult | None:
    """What to conclude instead of trying again, if an earlier attempt of the claimed record is in doubt."""
    if policy == "retry" or not any(
        attempt.commits_at is not None and attempt.duration is None for attempt in record.attempts[:-1]
    ):
        return None
    return AttemptResult(dict.fromkeys(waiting_recipients(record), _verdict(policy)))


def without_doubts(record: DeliveryRecord) -> DeliveryRecord:
    """The record once its doubts are decided: whoever releases a held delivery wants it tried."""
    earlier = (attempt.model_copy(update={"commits_at": None}) for attempt in record.attempts[:-1])
    return record.model_copy(update={"attempts": (*earlier, *record.attempts[-1:])})


def decided(result: AttemptResult, policy: OnAmbiguous) -> AttemptResult:
    """An ambiguous result with policy's word for the recipients that are in doubt."""
    if policy == "retry" or not result.ambiguous:
        return result
    return replace(
        result,
        outcomes={
            address: _verdict(policy) if _is_in_doubt(outcome) else outcome
            for address, outcome in result.outcomes.items()
        },
    )


def _is_in_doubt(outcome: RecipientOutcome) -> bool:
    return outcome.event is Event.DEFER and outcome.reason in _UNHEARD


def _verdict(policy: OnAmbiguous) -> RecipientOutcome:
    if policy == "hold":
        text = f"{_WORDS} It is held until somebody decides, as policy says."
        return Held(Reply.of(451, "4.4.2", text), Reason.AMBIGUOUS)
    text = f"{_WORDS} It is not sent again, as policy says."
    return Failed(Reply.of(554, "5.4.2", text), Reason.AMBIGUOUS)
