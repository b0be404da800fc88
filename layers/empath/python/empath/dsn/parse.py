"""Read a delivery status report: the inverse of `compose`, and lenient with other relays' reports.

Any octets either are a report or raise UnreadableReport.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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


def parse_report(content: bytes) -> ParsedReport:
    """Raises UnreadableReport when there is no delivery-status part, or a required field is missing."""
    message = message_from_bytes(content, policy=policy.compat32)
    parts = _parts(message)
    status = next((part for part in parts if part.get_content_type() in _STATUS_TYPES), None)
    if status is None:
        raise UnreadableReport("no part of type message/delivery-status")
    groups = _groups(status)
    if len(groups) < 2:
        raise UnreadableReport("no recipient is reported on")
    about, *recipients = groups
    return ParsedReport(
        reporting_mta=_typed(_required(about, "Reporting-MTA"))[1],
        recipients=tuple(_recipient(group) for group in recipients),
        message_id=_value(message, "Message-ID"),
        to=_value(message, "To"),
        envid=_value(about, "Original-Envelope-Id"),
        arrival_date=_instant(about, "Arrival-Date"),
        original_headers=next(
            (_octets(part) for part in parts if part.get_content_type() in _HEADER_TYPES), b""
        ),
        text=next((_text(part) for part in parts if part.get_content_type() == "text/plain"), ""),
    )


def _parts(message: Mail) -> Sequence[Mail]:
    if message.get_content_type() != "multipart/report":
        raise UnreadableReport(f"a report is multipart/report, not {message.get_content_type()[:80]}")
    payload = message.get_payload()
    if not isinstance(payload, list):
        raise UnreadableReport("the report has no parts")
    return [part for part in payload if isinstance(part, Message)]


def _groups(status: Mail) -> list[Mail]:
    payload = status.get_payload()
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
        original_recipient=None if original is None else ";".join(_typed(original)),
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


def _instant(group: Mail, name: str) -> datetime | None:
    value = _value(group, name)
    if value is None:
        return None
    try:
        instant = parsedate_to_datetime(value)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _octets(part: Mail) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _text(part: Mail) -> str:
    charset = part.get_content_charset() or "utf-8"
    try:
        return _octets(part).decode(charset, "replace")
    except LookupError:
        return _octets(part).decode("utf-8", "replace")
