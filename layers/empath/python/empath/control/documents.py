"""The published form of `--json`: fields are added over time, never renamed or removed (docs/empathctl.md).

Instants are `2026-03-01T12:00:00.000Z`; what is not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from empath.control.queue_reading import Depth
from empath.control.sending import Answer, Receipt
from empath.control.story import next_of
from empath.domain.circuit import Circuit
from empath.domain.instant import format_instant
from empath.domain.records import Attempt, DeliveryRecord, MessageRecord, Operation, RecipientRecord
from empath.domain.reply import Reply
from empath.domain.user import User
from empath.ports import Listed

Document = dict[str, Any]


def listing_document(rows: Sequence[Listed], depths: Sequence[Depth], *, has_more: bool) -> Document:
    return {
        "deliveries": [
            {
                "message_id": row.key.message_id,
                "delivery": row.key.delivery,
                "status": row.status.value,
                "at": _instant(row.at),
                "attempts": row.attempt - 1,
                "next_attempt_at": _instant(row.next_attempt_at),
                "job_at": _instant(row.job_at),
                "reason": row.reason,
            }
            for row in rows
        ],
        "has_more": has_more,
        "queues": [
            {
                "queue": depth.queue.value,
                "dead_letters": depth.is_dead,
                "visible": depth.visible,
                "in_flight": depth.in_flight,
                "delayed": depth.delayed,
            }
            for depth in depths
        ],
    }


def message_document(
    message_id: str,
    message: MessageRecord | None,
    deliveries: Sequence[DeliveryRecord],
    now: datetime,
    circuits: Mapping[str, Circuit] | None = None,
) -> Document:
    return {
        "message_id": message_id,
        "message": None if message is None else _message(message),
        "deliveries": [_delivery(record, now, circuits) for record in deliveries],
    }


def receipt_document(receipt: Receipt, changed: str | None) -> Document:
    return {
        "server": receipt.server,
        "accepted": receipt.final.is_positive,
        "reply": _answer(receipt.final),
        "recipients": [
            {"address": address, "accepted": answer.is_positive, "reply": _answer(answer)}
            for address, answer in receipt.recipients
        ],
        "size": receipt.size,
        "changed": changed,
    }


def user_document(user: User) -> Document:
    return {
        "name": user.name,
        "domains": list(user.domains),
        "tenant": user.tenant,
        "priority": user.priority,
        "messages_per_hour": user.messages_per_hour,
        "has_password": user.password_hash is not None,
        "revoked_at": _instant(user.revoked_at),
        "created_at": _instant(user.created_at),
    }


def _message(message: MessageRecord) -> Document:
    return {
        "reverse_path": "" if message.reverse_path is None else str(message.reverse_path),
        "size": message.size,
        "received_at": _instant(message.received_at),
        "client": message.source.client,
        "helo": message.source.helo,
        "report_of": message.source.report_of,
        "envid": message.envid,
        "deliveries": message.deliveries,
        "settled": len(message.settled),
        "spool_key": message.spool_key,
    }


def _delivery(record: DeliveryRecord, now: datetime, circuits: Mapping[str, Circuit] | None) -> Document:
    following = next_of(record, now, circuits)
    return {
        "delivery": record.delivery,
        "domain": record.domain,
        "status": record.status.value,
        "expires": _instant(record.expires),
        "reason": record.reason.value if record.reason else None,
        "recipients": [
            _recipient(address, recipient) for address, recipient in sorted(record.recipients.items())
        ],
        "attempts": [_attempt(attempt) for attempt in record.attempts],
        "operation": None if record.operation is None else _operation(record.operation),
        "reports": dict(sorted(record.reports.items())),
        "next": {"step": following.step, "at": _instant(following.at), "text": following.text},
    }


def _recipient(address: str, recipient: RecipientRecord) -> Document:
    return {
        "address": address,
        "state": recipient.state.value,
        "reply": _reply(recipient.reply),
        "reason": recipient.reason.value if recipient.reason else None,
        "next_hop": recipient.next_hop,
        "attempt": recipient.attempt,
        "notify": None if recipient.notify is None else list(recipient.notify),
        "passed_on": bool(recipient.passed_on),
    }


def _attempt(attempt: Attempt) -> Document:
    return {
        "attempt": attempt.attempt,
        "started": _instant(attempt.started),
        "duration": attempt.duration,
        "next_hop": attempt.next_hop,
        "reply": _reply(attempt.reply),
        "reason": attempt.reason.value if attempt.reason else None,
        "retry_after": attempt.retry_after,
        "tls": attempt.tls,
        "dnssec": bool(attempt.dnssec),
        "ambiguous": attempt.ambiguous,
    }


def _operation(operation: Operation) -> Document:
    return {
        "action": operation.action,
        "operator": operation.operator,
        "at": _instant(operation.at),
    }


def _reply(reply: Reply | None) -> Document | None:
    if reply is None:
        return None
    return {"code": reply.code, "status": str(reply.status), "text": reply.text}


def _answer(answer: Answer) -> Document:
    return {"code": answer.code, "text": answer.text}


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)
