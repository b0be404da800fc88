"""What a report says, out of what the ledger knows."""

from __future__ import annotations

import re

from empath.domain.delivery_state import State
from empath.domain.envelope import Source
from empath.domain.records import Attempt, DeliveryRecord, RecipientRecord
from empath.domain.reply import EnhancedStatusCode, Reply
from empath.dsn.model import Action, ReportedRecipient
from empath.pipeline.report_events import ReportEvent

DELIVERY_TIME_EXPIRED = EnhancedStatusCode(5, 4, 7)  # RFC 3463 §3.5

# Class of the status of each action (RFC 3464 §2.3.4).
_CLASS = {Action.FAILED: 5, Action.DELAYED: 4}

# What a client calls itself in HELO may be anything; here it is a name or a literal, or it is left out.
_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}|\[[A-Za-z0-9.:]{1,60}\]")

# An Endpoint as text: a host, which may be an address literal, its address and the port.
_HOP = re.compile(r"([^\[\]]+|\[[^\[\]]+\])\[[^\[\]]+\]:[0-9]+")


def reported_recipients(
    record: DeliveryRecord, event: ReportEvent, *, only_asked_for: bool = False
) -> list[ReportedRecipient]:
    """The recipients that `event` is about (those with NOTIFY, if `only_asked_for`), as RFC 3464 has them.

    The same whenever it is asked, but for the reply to an attempt that others have followed: of that one
    the attempt's own is left, if the attempt is still kept.
    """
    # The last of its number: an earlier one is a worker's that died.
    made = reversed(record.attempts)
    attempt = next((entry for entry in made if entry.attempt == event.attempt), None)
    return [
        _reported(address, recipient, event, record, attempt)
        for address, recipient in record.recipients.items()
        if event.is_about(recipient) and (recipient.notify is not None or not only_asked_for)
    ]


def _reported(
    address: str,
    recipient: RecipientRecord,
    event: ReportEvent,
    record: DeliveryRecord,
    attempt: Attempt | None,
) -> ReportedRecipient:
    is_last = recipient.attempt == event.attempt
    known = recipient if is_last or attempt is None else attempt
    next_hop, reply, reason = known.next_hop, known.reply, known.reason
    return ReportedRecipient.model_validate(
        {
            "final_recipient": address,
            "action": event.action,
            "status": DELIVERY_TIME_EXPIRED
            if _has_expired(recipient, event)
            else _status(reply, event.action),
            "orcpt": recipient.orcpt,
            "remote_mta": _host_of(next_hop),
            "diagnostic": reply,
            "by_smtp": next_hop is None or _HOP.fullmatch(next_hop) is not None,
            "reason": reason,
            "cause": attempt.reason if is_last and attempt and attempt.reply == reply else None,
            "last_attempt": attempt.started if attempt else None,
            "will_retry_until": record.expires if event.action is Action.DELAYED else None,
        }
    )


def _has_expired(recipient: RecipientRecord, event: ReportEvent) -> bool:
    return event.action is Action.FAILED and recipient.state is State.EXPIRED


def _status(reply: Reply | None, action: Action) -> EnhancedStatusCode:
    """The reply's, if it is of the class that the action has."""
    status_class = _CLASS.get(action, 2)
    if reply is not None and reply.status.status_class == status_class:
        return reply.status
    return EnhancedStatusCode(status_class, 0, 0)


def _host_of(next_hop: str | None) -> str | None:
    """`mx.example.com` out of `mx.example.com[192.0.2.1]:25`; None for what is no mail server."""
    match = _HOP.fullmatch(next_hop) if next_hop else None
    return match[1] if match else None


def received_from(source: Source) -> str | None:
    """The client in the words of Received-From-MTA (RFC 3464 §2.2.4); None for a report of our own."""
    if source.client is None:
        return None
    literal = f"[IPv6:{source.client}]" if ":" in source.client else f"[{source.client}]"
    name = source.helo if source.helo and _HOST.fullmatch(source.helo) else None
    return f"{name} ({literal})" if name and name.lower() != literal.lower() else literal
