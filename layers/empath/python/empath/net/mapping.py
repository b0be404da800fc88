"""Foreign errors of a session with a next hop, as refusals: the one place where they are mapped.

Everything that is not the next hop's own words is transient: networks and hosts recover.
"""

from __future__ import annotations

import os

from aiosmtplib import SMTPResponseException, SMTPTimeoutError

from empath.domain.errors import PermanentRefusal, Refusal, TransientRefusal
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.smtp.client.verdicts import lost, out_of_place, timed_out, unreadable


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
    return TransientRefusal(out_of_place(reply), Reason.PROTOCOL_ERROR)


def unreachable(error: OSError, where: str) -> TransientRefusal:
    """No connection to `where`."""
    if isinstance(error, TimeoutError):
        text = f"Connection to {where} timed out"
        return TransientRefusal(Reply.of(451, "4.4.1", text), Reason.TIMEOUT)
    text = f"Connection to {where} failed: {_words_of(error)}"
    return TransientRefusal(Reply.of(451, "4.4.1", text), Reason.CONNECTION_FAILED)


def tls_failed(what: str, *, status: str = "4.7.5") -> TransientRefusal:
    return TransientRefusal(Reply.of(451, status, what), Reason.TLS_FAILED)


class CertificateRefused(TransientRefusal):
    """The handshake ended because the certificate is not valid; `fault` says why."""

    def __init__(self, host: str, fault: str) -> None:
        text = f"TLS with {host} failed: certificate not valid: {fault}"
        super().__init__(Reply.of(451, "4.7.5", text), Reason.TLS_FAILED)
        self.fault = fault


def auth_failed(what: str, *, status: str = "4.7.8") -> TransientRefusal:
    return TransientRefusal(Reply.of(451, status, f"Authentication failed: {what}"), Reason.AUTH_FAILED)


def _words_of(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "network error"
