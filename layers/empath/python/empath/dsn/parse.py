"""Read a delivery status report: the inverse of `compose`, and lenient with other relays' reports.

Any octets either are a report or raise UnreadableReport. Parts are cut out of the octets by their boundary,
so that what was returned of the original comes back as it was; `email` reads header fields.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import TypeAlias

from empath.domain.reply import EnhancedStatusCode
from empath.dsn.encoding import unescaped
from empath.dsn.model import Action, ParsedRecipient, ParsedReport, UnreadableReport

Mail: TypeAlias = "Message[str, str]"

_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
_HEADER_TYPES = ("text/rfc822-headers", "message/global-headers")
_MESSAGE_TYPES = ("message/rfc822", "message/global")

_EMPTY_LINE = re.compile(rb"(?:^|\r?\n)\r?\n")
_AS_STATUS = b"Content-Type: message/delivery-status\r\n\r\n"


@dataclass(frozen=True, slots=True)
class _Part:
    header: Mail
    content: bytes
    """Out of its transfer encoding."""

    @property
    def kind(self) -> str:
        return self.header.get_content_type()


def parse_report(content: bytes) -> ParsedReport:
    """Raises UnreadableReport when there is no delivery-status part, or a required field is missing."""
    header, body = _split(content)
    parts = _parts(header, body)
    status = _first(parts, _STATUS_TYPES)
    if status is None:
        raise UnreadableReport("no part of type message/delivery-status")
    groups = _groups(status)
    if len(groups) < 2:
        raise UnreadableReport("no recipient is reported on")
    about, *recipients = groups
    text = next((part for part in parts if part.kind == "text/plain"), None)
    received_from = _value(about, "Received-From-MTA")
    return ParsedReport(
        reporting_mta=_typed(_required(about, "Reporting-MTA"))[1],
        recipients=tuple(_recipient(group) for group in recipients),
        message_id=_value(header, "Message-ID"),
        to=_value(header, "To"),
        subject=_value(header, "Subject"),
        envid=_value(about, "Original-Envelope-Id"),
        arrival_date=_instant(about, "Arrival-Date"),
        received_from=None if received_from is None else _typed(received_from)[1],
        original_headers=_first(parts, _HEADER_TYPES) or b"",
        original_message=_first(parts, _MESSAGE_TYPES) or b"",
        text="" if text is None else _text(text),
    )


def _split(octets: bytes) -> tuple[Mail, bytes]:
    """Header section and body (RFC 5322 §2.1)."""
    end = _EMPTY_LINE.search(octets)
    head, body = (octets[: end.start()], octets[end.end() :]) if end else (octets, b"")
    return message_from_bytes(head + b"\r\n\r\n", policy=policy.compat32), body


def _parts(header: Mail, body: bytes) -> Sequence[_Part]:
    if header.get_content_type() != "multipart/report":
        raise UnreadableReport(f"a report is multipart/report, not {header.get_content_type()[:80]}")
    boundary = header.get_boundary()
    if not boundary:
        raise UnreadableReport("the report has no boundary")
    # RFC 2046 §5.1.1: the line end in front of a delimiter belongs to it.
    mark = re.escape(boundary.encode("utf-8", "surrogateescape"))
    pieces = re.split(rb"(?:^|\r?\n)--" + mark + rb"(--)?[ \t]*(?=\r?\n|\Z)", body)
    parts = []
    for closes, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        if closes:
            break
        inner, content = _split(re.sub(rb"\A\r?\n", b"", piece))
        parts.append(_Part(inner, _decoded(inner, content)))
    if not parts:
        raise UnreadableReport("the report has no parts")
    return parts


def _decoded(header: Mail, content: bytes) -> bytes:
    match str(header.get("Content-Transfer-Encoding", "")).strip().lower():
        case "base64":
            try:
                return binascii.a2b_base64(content)
            except binascii.Error:
                return content
        case "quoted-printable":
            return binascii.a2b_qp(content)
        case _:
            return content


def _first(parts: Sequence[_Part], kinds: Sequence[str]) -> bytes | None:
    return next((part.content for part in parts if part.kind in kinds), None)


def _groups(status: bytes) -> list[Mail]:
    """The blocks of fields; `email` knows how to find them in the type that is ASCII."""
    payload = message_from_bytes(_AS_STATUS + status, policy=policy.compat32).get_payload()
    blocks = payload if isinstance(payload, list) else []
    return [block for block in blocks if isinstance(block, Message) and block.keys()]


def _recipient(group: Mail) -> ParsedRecipient:
    action = _required(group, "Action").lower()
    status = _required(group, "Status")
    try:
        known_action = Action(action)
        code = EnhancedStatusCode.parse(status.split()[0])  # a comment may follow
    except ValueError as error:
        raise UnreadableReport(str(error)) from None
    original = _value(group, "Original-Recipient")
    diagnostic = _value(group, "Diagnostic-Code")
    kind, words = _typed(diagnostic) if diagnostic is not None else (None, None)
    remote = _value(group, "Remote-MTA")
    return ParsedRecipient(
        final_recipient=_address(_required(group, "Final-Recipient")),
        action=known_action,
        status=code,
        original_recipient=None if original is None else _original(original),
        remote_mta=None if remote is None else _typed(remote)[1],
        diagnostic_type=kind,
        diagnostic=None if words is None else unescaped(words),
        last_attempt=_instant(group, "Last-Attempt-Date"),
        will_retry_until=_instant(group, "Will-Retry-Until"),
    )


def _value(group: Mail, name: str) -> str | None:
    """The field unfolded, octets beyond ASCII read as UTF-8; None when it is not there."""
    # Not `group[name]`: compat32 turns 8-bit values into an object that has lost the octets.
    raw = next((value for key, value in group.raw_items() if key.lower() == name.lower()), None)
    if raw is None:
        return None
    text = re.sub(r"[\r\n]+(?=[ \t]|$)", "", str(raw)).strip()
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _required(group: Mail, name: str) -> str:
    value = _value(group, name)
    if not value:
        raise UnreadableReport(f"field {name} is missing")
    return value


def _typed(value: str) -> tuple[str, str]:
    """`type; text` in two, the type in lower case; empty where none is given."""
    kind, semicolon, text = value.partition(";")
    return (kind.strip().lower(), text.strip()) if semicolon else ("", value)


def _address(value: str) -> str:
    kind, text = _typed(value)
    return unescaped(text) if kind == "utf-8" else text


def _original(value: str) -> str:
    return f"{_typed(value)[0]};{_address(value)}"


def _instant(group: Mail, name: str) -> datetime | None:
    value = _value(group, name)
    if value is None:
        return None
    try:
        instant = parsedate_to_datetime(value)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _text(part: _Part) -> str:
    charset = part.header.get_content_charset() or "utf-8"
    try:
        return part.content.decode(charset, "replace")
    except LookupError:
        return part.content.decode("utf-8", "replace")
