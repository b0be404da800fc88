"""Write a report: multipart/report of RFC 6522 with the delivery-status fields of RFC 3464.

Octets out of values, and nothing else: the same report gives the same octets, so a redelivered job
writes the same message again. CRLF line ends, and 7-bit but for what somebody asked to have in 8 bits: the
whole message of a sender who used 8BITMIME, or the addresses and headers of one who used SMTPUTF8, in the
`global` types of RFC 6533. Its own header section is always ASCII, so it needs no SMTPUTF8 on its way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from email.utils import format_datetime

from empath.domain.instant import format_instant
from empath.dsn import wording
from empath.dsn.encoding import (
    address,
    decoded_xtext,
    escaped_text,
    field,
    is_utf8,
    original_recipient,
    text_field,
    to_value,
    transfer_form,
    unencoded_form,
)
from empath.dsn.model import Report, ReportedRecipient, header_section


def compose_report(report: Report) -> bytes:
    """The whole message, header section and all, in CRLF lines of at most 998 octets."""
    parts = [_text_part(report), _status_part(report), *_returned_part(report)]
    boundary = _boundary(report, parts)
    mark = b"\r\n--" + boundary.encode("ascii")
    preamble = b"This is a delivery status report in MIME format (RFC 3464).\r\n"
    body = b"".join(mark + b"\r\n" + part for part in parts)
    encoding = "7bit" if body.isascii() else "8bit"
    header = _header(report, boundary, encoding).encode("ascii")
    return header + b"\r\n" + preamble + body + mark + b"--\r\n"


def _header(report: Report, boundary: str, encoding: str) -> str:
    host = report.reporting_mta
    return "".join(
        (
            field("From", f'"Mail Delivery System" <mailer-daemon@{host}>'),
            field("To", to_value(str(report.reverse_path))),
            text_field("Subject", wording.subject(report)),
            field("Date", format_datetime(report.composed_at)),
            field("Message-ID", f"<{report.report_id}@{host}>"),
            field("Auto-Submitted", "auto-replied"),  # RFC 3834 §5
            field("MIME-Version", "1.0"),
            "Content-Type: multipart/report; report-type=delivery-status;\r\n"
            f' boundary="{boundary}"\r\n'
            f"Content-Transfer-Encoding: {encoding}\r\n",
        )
    )


def _text_part(report: Report) -> bytes:
    text = wording.body(report).replace("\n", "\r\n")
    charset = "us-ascii" if text.isascii() else "utf-8"
    encoding, content = transfer_form(text.encode("utf-8", "replace"))
    return _part("text/plain", f"; charset={charset}".encode("ascii"), encoding, content)


def _status_part(report: Report) -> bytes:
    """Addresses beyond ASCII as they are make it global (RFC 6533 §4); else it is 7-bit for every reader."""
    fields = _delivery_status(report, utf8=report.international).encode()
    encoding = "7bit" if fields.isascii() else "8bit"
    kind = "message/delivery-status" if fields.isascii() else "message/global-delivery-status"
    return _part(kind, b"", encoding, fields)


def _returned_part(report: Report) -> Iterator[bytes]:
    """The original, or what of it can be returned; nothing when there is none."""
    message = _ended(report.original_message)
    encoding = unencoded_form(message)
    if message and encoding is not None:
        is_global = report.international and is_utf8(header_section(message))
        yield _part("message/global" if is_global else "message/rfc822", b"", encoding, message)
        return
    headers = _ended(report.original_headers or header_section(message))
    encoding = unencoded_form(headers)
    if headers and encoding is not None and report.international and is_utf8(headers):
        yield _part("message/global-headers", b"", encoding, headers)
    elif headers:
        encoding, content = transfer_form(headers)
        yield _part("text/rfc822-headers", b"", encoding, content)


def _ended(octets: bytes) -> bytes:
    return octets + b"\r\n" if octets and not octets.endswith(b"\r\n") else octets


def _part(kind: str, parameters: bytes, encoding: str, content: bytes) -> bytes:
    return (
        f"Content-Type: {kind}".encode("ascii")
        + parameters
        + f"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode("ascii")
        + content
    )


def _delivery_status(report: Report, *, utf8: bool) -> str:
    groups = [_per_message_fields(report)]
    groups.extend(_per_recipient_fields(recipient, utf8=utf8) for recipient in report.recipients)
    return "\r\n".join(groups)


def _per_message_fields(report: Report) -> str:
    """RFC 3464 §2.2."""
    fields = [field("Reporting-MTA", f"dns; {report.reporting_mta}")]
    if report.envid:
        fields.insert(0, field("Original-Envelope-Id", decoded_xtext(report.envid)))
    if report.received_from:
        fields.append(field("Received-From-MTA", f"dns; {report.received_from}"))
    fields.extend(_date("Arrival-Date", report.arrival_date))
    return "".join(fields)


def _per_recipient_fields(recipient: ReportedRecipient, *, utf8: bool) -> str:
    """RFC 3464 §2.3."""
    fields = []
    original = original_recipient(recipient.orcpt, utf8=utf8) if recipient.orcpt else None
    if original is not None:
        fields.append(field("Original-Recipient", original, utf8=utf8))
    fields += [
        field("Final-Recipient", address(str(recipient.final_recipient), utf8=utf8), utf8=utf8),
        field("Action", recipient.action.value),
        field("Status", str(recipient.status)),
    ]
    if recipient.remote_mta:
        fields.append(field("Remote-MTA", f"dns; {recipient.remote_mta}"))
    if recipient.diagnostic is not None:
        # What no SMTP server said is not called `smtp` (RFC 3464 §2.3.6).
        kind = "smtp" if recipient.heard and recipient.by_smtp else "X-Empath"
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
