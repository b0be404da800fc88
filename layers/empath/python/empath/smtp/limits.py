"""What one session may ask for. Every number has its reason or its precedent beside it."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

MIN_TEXT_LINE = 998
"""Octets of a text line that must pass (RFC 5321 §4.5.3.1.6, without CRLF).

There is no maximum: the data reader holds no lines, so a longer one costs no memory, and §4.5.3.1
asks for "implementation techniques that impose no limits" wherever possible. Content is opaque.
"""

MAX_AUTH_LINE = 12_288
"""Octets of a response within AUTH, with CRLF (RFC 4954 §4)."""


@dataclass(frozen=True, slots=True)
class Limits:
    max_size: int = 50 * MIB
    """Octets of content. SES takes 40 MB, Gmail 50 MB, Postfix 10 MB unless told otherwise."""

    max_recipients: int = 1000
    """Of a transaction: Postfix's smtpd_recipient_limit; RFC 5321 §4.5.3.1.8 asks for at least 100.
    Told as RCPTMAX (RFC 9422). Only recipients that were accepted count, each once, so a client that
    counts its RCPT commands never gets near."""

    max_messages: int = 10_000
    """MAIL commands of a session, whatever came of them; KumoMTA's number. Told as MAILMAX (RFC 9422)."""

    max_recipient_octets: int = 128 * KIB
    """Of all recipients as JSON text: with the envelope they travel in one SQS message of 256 KiB."""

    max_command_line: int = 2048
    """With CRLF. RFC 5321 §4.5.3.1.4 says 512; extensions add to it, ORCPT alone 500 (RFC 3461 §4),
    SMTPUTF8 and SIZE more. Postfix takes 2048."""

    max_errors: int = 20
    """Permanent refusals since the last accepted message; Postfix's smtpd_hard_error_limit."""

    @property
    def max_raw_octets(self) -> int:
        """How much of one DATA phase is read at all, content that is already refused included.

        Dot-stuffing can add a third at most, so nothing within `max_size` ever comes near.
        """
        return 2 * self.max_size + 64 * KIB
