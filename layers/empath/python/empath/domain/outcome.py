"""What an attempt did for one recipient."""

from __future__ import annotations

from dataclasses import dataclass

from empath.domain.delivery_state import Event
from empath.domain.errors import PermanentRefusal, Refusal
from empath.domain.reason import Reason
from empath.domain.reply import Reply


@dataclass(frozen=True, slots=True)
class Sent:
    """The next hop took responsibility (RFC 5321 §4.2.5)."""

    reply: Reply
    reason: Reason | None = None
    event = Event.ACCEPT


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now; the recipient is tried again."""

    reply: Reply
    reason: Reason = Reason.NEXT_HOP_REPLY
    event = Event.DEFER


@dataclass(frozen=True, slots=True)
class Failed:
    """Not ever; the sender gets a report."""

    reply: Reply
    reason: Reason = Reason.NEXT_HOP_REPLY
    event = Event.REFUSE


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing happens until an operator says what."""

    reply: Reply
    reason: Reason
    event = Event.HOLD


RecipientOutcome = Sent | Deferred | Failed | Held


def outcome_of_reply(reply: Reply) -> RecipientOutcome:
    """2xx sends, 5xx fails, everything else defers (RFC 5321 §4.2.1)."""
    if reply.is_positive and reply.code < 300:
        return Sent(reply)
    return Failed(reply) if reply.is_permanent else Deferred(reply)


def outcome_of_refusal(refusal: Refusal) -> RecipientOutcome:
    """The same answer for a recipient that a refusal before its own reply covers."""
    if isinstance(refusal, PermanentRefusal):
        return Failed(refusal.reply, refusal.reason)
    return Deferred(refusal.reply, refusal.reason)
