"""Write a report: multipart/report of RFC 6522 with the delivery-status fields of RFC 3464.

Octets out of values, and nothing else: the same report gives the same octets, so a redelivered job
writes the same message again. The result is 7-bit with CRLF line ends, whatever is reported on; the
`message/global-delivery-status` of RFC 6533 §4 is therefore never needed, only its address type.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from email.utils import format_datetime

from empath.domain.instant import format_instant
from empath.dsn import wording
from empath.dsn.encoding import (
    address,
    decoded_xtext,
    escaped_text,
    field,
    original_recipient,
    to_value,
    transfer_form,
)
from empath.dsn.model import Report, ReportedRecipient


def compose_report(report: Report) -> bytes:
    """The whole message, header section and all, in CRLF lines of at most 998 octets."""
    parts = [
        _text_part(report),
        _part("message/delivery-status", b"", "7bit", _delivery_status(report).encode("ascii")),
    ]
    if report.original_headers:
        encoding, content = transfer_form(report.original_headers)
        parts.append(_part("text/rfc822-headers", b"", encoding, content))
    boundary = _boundary(report, parts)
    mark = b"\r\n--" + boundary.encode("ascii")
    preamble = b"This is a delivery status report in MIME format (RFC 3464).\r\n"
    body = b"".join(mark + b"\r\n" + part for part in parts)
    return _header(report, boundary).encode("ascii") + b"\r\n" + preamble + body + mark + b"--\r\n"


def _header(report: Report, boundary: str) -> str:
    host = report.reporting_mta
    return "".join(
        (
            field("From", f'"Mail Delivery System" <mailer-daemon@{host}>'),
            field("To", to_value(str(report.reverse_path))),
            field("Subject", wording.subject(report)),
            field("Date", format_datetime(report.composed_at)),
            field("Message-ID", f"<{report.report_id}@{host}>"),
            field("Auto-Submitted", "auto-replied"),  # RFC 3834 §5
            field("MIME-Version", "1.0"),
            "Content-Type: multipart/report; report-type=delivery-status;\r\n"
            f' boundary="{boundary}"\r\n'
            "Content-Transfer-Encoding: 7bit\r\n",
        )
    )


def _text_part(report: Report) -> bytes:
    text = wording.body(report).replace("\n", "\r\n")
    charset = "us-ascii" if text.isascii() else "utf-8"
    encoding, content = transfer_form(text.encode("utf-8", "replace"))
    return _part("text/plain", f"; charset={charset}".encode("ascii"), encoding, content)


def _part(kind: str, parameters: bytes, encoding: str, content: bytes) -> bytes:
    return (
        f"Content-Type: {kind}".encode("ascii")
        + parameters
        + f"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode("ascii")
        + content
    )


def _delivery_status(report: Report) -> str:
    groups = [_per_message_fields(report)]
    groups.extend(_per_recipient_fields(recipient) for recipient in report.recipients)
    return "\r\n".join(groups)


def _per_message_fields(report: Report) -> str:
    """RFC 3464 §2.2."""
    fields = [field("Reporting-MTA", f"dns; {report.reporting_mta}")]
    if report.envid:
        fields.insert(0, field("Original-Envelope-Id", decoded_xtext(report.envid)))
    fields.extend(_date("Arrival-Date", report.arrival_date))
    return "".join(fields)


def _per_recipient_fields(recipient: ReportedRecipient) -> str:
    """RFC 3464 §2.3."""
    fields = []
    original = original_recipient(recipient.orcpt) if recipient.orcpt else None
    if original is not None:
        fields.append(field("Original-Recipient", original))
    fields += [
        field("Final-Recipient", address(str(recipient.final_recipient))),
        field("Action", recipient.action.value),
        field("Status", str(recipient.status)),
    ]
    if recipient.remote_mta:
        fields.append(field("Remote-MTA", f"dns; {recipient.remote_mta}"))
    if recipient.diagnostic is not None:
        # What no SMTP server said is not called `smtp` (RFC 3464 §2.3.6).
        kind = "smtp" if recipient.heard else "X-Empath"
        fields.append(field("Diagnostic-Code", f"{kind}; {escaped_text(str(recipient.diagnostic))}"))
    fields.extend(_date("Last-Attempt-Date", recipient.last_attempt))
    fields.extend(_date("Will-Retry-Until", recipient.will_retry_until))
    return "".join(fields)


def _date(name: str, instant: datetime | None) -> list[str]:
    return [] if instant is None else [field(name, format_datetime(instant))]


def _boundary(report: Report, parts: list[bytes]) -> str:
    """A delimiter that is in none of the parts.

    Out of a digest of them, so nobody who writes a part can know it; `=_` cannot appear in
    quoted-printable either (RFC 2045 §6.7).
    """
    seed = b"\0".join((report.report_id.encode(), format_instant(report.composed_at).encode(), *parts))
    while True:
        seed = hashlib.sha256(seed).digest()
        boundary = f"=_empath_{seed.hex()[:32]}"
        if not any(boundary.encode("ascii") in part for part in parts):
            return boundary
