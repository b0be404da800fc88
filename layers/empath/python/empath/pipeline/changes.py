"""What a change of the ledger tells: audit records and lifecycle events.

Pure: the same change gives the same records, with the same ids, however often the stream gives it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from empath.domain.audit import AuditRecord
from empath.domain.classification import classify
from empath.domain.delivery_state import OPEN, State
from empath.domain.lifecycle import LifecycleEvent, type_of
from empath.domain.records import Attempt, DeliveryRecord, MessageRecord, RecipientRecord
from empath.domain.redaction import Redaction
from empath.domain.reply import Reply
from empath.domain.suppression import MAX_NOTE, Suppression, listed_as, names_no_mailbox

Record = MessageRecord | DeliveryRecord


@dataclass(frozen=True, slots=True)
class StreamChange:
    """One record of the ledger's stream: an item before and after."""

    id: str
    """The stream's own name for the change: the same whenever it is given again."""
    at: datetime
    """When it was written; DynamoDB says it to the second."""
    old: Record | None
    new: Record | None

    @property
    def message_id(self) -> str | None:
        known = self.new or self.old
        return known.message_id if known is not None else None


def audit_records(change: StreamChange, redaction: Redaction) -> list[AuditRecord]:
    """What the audit trail keeps of a change, most often nothing."""
    return list(_numbered(change, redaction))


def _numbered(change: StreamChange, redaction: Redaction) -> Iterator[AuditRecord]:
    told: Iterator[AuditRecord]
    match change.new:
        case MessageRecord() if change.old is None:
            told = iter((_received(change.new, redaction),))
        case DeliveryRecord():
            told = _of_delivery(change, change.new, redaction)
        case _:
            return
    for place, record in enumerate(told):
        yield record.model_copy(update={"id": f"{change.id}/{place}"})


def _received(message: MessageRecord, redaction: Redaction) -> AuditRecord:
    source = message.source
    return AuditRecord(
        id="",
        type="MessageReceived",
        at=message.received_at,
        message_id=message.message_id,
        tenant=message.tenant,
        reverse_path=redaction.address("reverse_path", str(message.reverse_path or "")),
        size=message.size,
        client=redaction.word("client", source.client),
        helo=redaction.word("helo", source.helo),
        user=redaction.word("user", source.user),
        client_tls=source.tls,
        report_of=source.report_of,
    )


def _of_delivery(change: StreamChange, new: DeliveryRecord, redaction: Redaction) -> Iterator[AuditRecord]:
    old = change.old if isinstance(change.old, DeliveryRecord) else None
    about: dict[str, Any] = {
        "message_id": new.message_id,
        "tenant": new.tenant,
        "delivery": new.delivery,
        "domain": new.domain,
    }
    for attempt in _ended(old, new):
        yield AuditRecord(
            id="",
            type="DeliveryAttempt",
            at=attempt.started,
            attempt=attempt.attempt,
            next_hop=attempt.next_hop,
            reply=_words(attempt.reply, redaction, new.recipients),
            reason=attempt.reason,
            trouble=attempt.trouble,
            recipients=_outcomes(new, attempt, redaction),
            duration=attempt.duration,
            tls=attempt.tls,
            ambiguous=attempt.ambiguous or None,
            **about,
        )
    for address, known in new.recipients.items():
        before = old.recipients.get(address) if old is not None else None
        if known.state in OPEN or (before is not None and before.state is known.state):
            continue
        sent = known.state is State.SENT
        yield AuditRecord(
            id="",
            type="DeliverySuccess" if sent else "DeliveryFailure",
            at=change.at,
            attempt=known.attempt,
            next_hop=known.next_hop,
            reply=_words(known.reply, redaction, new.recipients),
            reason=known.reason,
            trouble=None if sent else classify(known.reply, known.reason),
            recipient=redaction.address("recipient", address),
            state=known.state,
            **about,
        )
    done = new.operation
    if done is not None and (old is None or old.operation is None or old.operation.id != done.id):
        yield AuditRecord(
            id="",
            type="OperatorAction",
            at=done.at,
            operator=done.operator,
            action=f"queue {done.action}",
            result="done",
            before=old.status if old is not None else None,
            after=new.status,
            **about,
        )


def _ended(old: DeliveryRecord | None, new: DeliveryRecord) -> Iterator[Attempt]:
    """Attempts of which this change says for the first time how they ended: recorded, or given up."""
    before = (
        {(attempt.attempt, attempt.owner): attempt for attempt in old.attempts} if old is not None else {}
    )
    for attempt in new.attempts:
        known = before.get((attempt.attempt, attempt.owner))
        if _has_ended(attempt) and (known is None or not _has_ended(known)):
            yield attempt


def _has_ended(attempt: Attempt) -> bool:
    return attempt.duration is not None or attempt.ambiguous


def _outcomes(new: DeliveryRecord, attempt: Attempt, redaction: Redaction) -> dict[str, State] | None:
    if attempt.duration is None:
        return None
    tried = {a: known.state for a, known in new.recipients.items() if known.attempt == attempt.attempt}
    redacted: dict[str, State] = {}
    for address, state in tried.items():
        name = redaction.address("recipient", address)
        place = 2
        while name in redacted:  # several people at one domain who have no names any more
            name = f"{redaction.address('recipient', address)} ({place})"
            place += 1
        redacted[name] = state
    return redacted


def lifecycle_events(
    change: StreamChange, types: Container[str], redaction: Redaction
) -> Iterator[LifecycleEvent]:
    """What is told of a change, in the order of its recipients; only `types`."""
    new = change.new
    if not isinstance(new, DeliveryRecord):
        return
    old = change.old if isinstance(change.old, DeliveryRecord) else None
    for place, (address, known) in enumerate(new.recipients.items()):
        kind = type_of(known.state)
        if kind is None or kind not in types or not _is_new(old, address, known):
            continue
        yield LifecycleEvent(
            id=f"{change.id}/{place}",
            type=kind,
            at=change.at,
            message_id=new.message_id,
            delivery=new.delivery,
            domain=new.domain,
            tenant=new.tenant,
            recipient=redaction.address("recipient", address),
            attempt=known.attempt,
            next_hop=known.next_hop,
            reply=_words(known.reply, redaction, new.recipients),
            status=str(known.reply.status) if known.reply is not None else None,
            reason=known.reason,
            trouble=None if kind == "sent" else classify(known.reply, known.reason),
            next_attempt_at=new.next_attempt_at if kind == "deferred" else None,
        )


def suppressions_of(change: StreamChange) -> Iterator[tuple[str | None, Suppression]]:
    """Tenant and entry (with no end yet) of each recipient that this change says has no mailbox."""
    new = change.new
    if not isinstance(new, DeliveryRecord):
        return
    old = change.old if isinstance(change.old, DeliveryRecord) else None
    for address, known in new.recipients.items():
        if known.state is not State.FAILED or not _is_new(old, address, known):
            continue
        if names_no_mailbox(address, known.reply, known.reason):
            yield (
                new.tenant,
                Suppression(
                    address=listed_as(address),
                    since=change.at,
                    origin="failure",
                    note=str(known.reply)[:MAX_NOTE],
                    message_id=new.message_id,
                ),
            )


def _is_new(old: DeliveryRecord | None, address: str, known: RecipientRecord) -> bool:
    """Whether a recipient's state came with this change; a deferral is new with every attempt."""
    before = old.recipients.get(address) if old is not None else None
    return before is None or (before.state, before.attempt) != (known.state, known.attempt)


def _words(reply: Reply | None, redaction: Redaction, about: Iterable[str]) -> str | None:
    if reply is None:
        return None
    return str(reply.model_copy(update={"text": redaction.reply(reply.text, about)}))
