"""Foreign errors of a session with a next hop, as refusals: the one place where they are mapped.

Everything that is not the next hop's own words is transient: networks and hosts recover.
"""

from __future__ import annotations

import os

from aiosmtplib import SMTPResponseException, SMTPTimeoutError

from empath.domain.errors import PermanentRefusal, Refusal, TransientRefusal
from empath.domain.outcome import Deferred, RecipientOutcome, outcome_of_reply
from empath.domain.reason import Reason
from empath.domain.reply import Reply


def refusal_of(error: OSError | SMTPResponseException, step: str) -> Refusal:
    """The refusal for an error while `step` (a noun phrase: "the greeting") was waited for."""
    if isinstance(error, SMTPResponseException):
        return (
            unreadable(step) if error.code < 0 else refusal_of_reply(Reply.heard(error.code, error.message))
        )
    if isinstance(error, SMTPTimeoutError | TimeoutError):
        return timed_out(step)
    return lost(step)


def refusal_of_reply(reply: Reply) -> Refusal:
    """The refusal in a reply that should have been positive; what is neither 4xx nor 5xx is transient."""
    if reply.is_permanent:
        return PermanentRefusal(reply, Reason.NEXT_HOP_REPLY)
    if reply.is_transient:
        return TransientRefusal(reply, Reason.NEXT_HOP_REPLY)
    return TransientRefusal(_out_of_place(reply), Reason.PROTOCOL_ERROR)


def outcome_of_negative(reply: Reply) -> RecipientOutcome:
    """The outcome of a reply that does not let the transaction go on, never Sent."""
    if reply.is_positive:
        return Deferred(_out_of_place(reply), Reason.PROTOCOL_ERROR)
    return outcome_of_reply(reply)


def unreachable(error: OSError, where: str) -> TransientRefusal:
    """No connection to `where`."""
    if isinstance(error, TimeoutError):
        text = f"Connection to {where} timed out"
        return TransientRefusal(Reply.of(451, "4.4.1", text), Reason.TIMEOUT)
    text = f"Connection to {where} failed: {_words_of(error)}"
    return TransientRefusal(Reply.of(451, "4.4.1", text), Reason.CONNECTION_FAILED)


def tls_failed(what: str, *, status: str = "4.7.5") -> TransientRefusal:
    return TransientRefusal(Reply.of(451, status, what), Reason.TLS_FAILED)


def timed_out(step: str) -> TransientRefusal:
    reply = Reply.of(451, "4.4.2", f"Timed out while waiting for {step}")
    return TransientRefusal(reply, Reason.TIMEOUT)


def lost(step: str) -> TransientRefusal:
    reply = Reply.of(451, "4.4.2", f"Connection lost while waiting for {step}")
    return TransientRefusal(reply, Reason.CONNECTION_LOST)


def unreadable(step: str) -> TransientRefusal:
    reply = Reply.of(451, "4.5.0", f"The next hop sent something that is no SMTP reply instead of {step}")
    return TransientRefusal(reply, Reason.PROTOCOL_ERROR)


def _out_of_place(reply: Reply) -> Reply:
    return Reply.of(451, "4.5.0", f"The next hop sent a reply that does not belong here: {reply}")


def _words_of(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "network error"
