"""What a delivery status report says, apart from how it is written down (RFC 3464 §2).

A report speaks about recipients of one message. Whether one is owed at all (null reverse-path,
NOTIFY) is the pipeline's decision; nothing here knows of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from empath.domain.address import HostName, MailboxField
from empath.domain.errors import EmpathError
from empath.domain.instant import InstantField
from empath.domain.reason import Reason
from empath.domain.reply import EnhancedStatusCode, Reply, StatusField
from empath.domain.report_policy import MAX_FULL_MESSAGE, ReportTemplate

MAX_RETURNED_HEADERS = 64 * 1024
"""Octets of the original's header section that a report returns; Postfix's header_size_limit is 100 kB."""

_REPORT_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class UnreadableReport(EmpathError):
    """Not a delivery status report, or a broken one; the text says what is wrong."""


class Action(StrEnum):
    """What became of a recipient (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


class ReportedRecipient(BaseModel):
    """One recipient of the original message, and what happened."""

    # Built at first use: `deliver` needs no more of this module than Action, and these are 5 ms of its start.
    model_config = ConfigDict(frozen=True, defer_build=True)

    final_recipient: MailboxField
    action: Action
    status: StatusField
    orcpt: str | None = None
    """The ORCPT parameter as the client gave it, xtext and all (RFC 3461 §4.2)."""
    remote_mta: str | None = None
    """The name of the host that `diagnostic` was heard from, or that was last tried."""
    diagnostic: Reply | None = None
    reason: Reason | None = None
    """NEXT_HOP_REPLY: `diagnostic` is the next hop's; most others: it is in our own words."""
    cause: Reason | None = None
    """Why the last attempt came to nothing, where `reason` says only that it was the last; None: unknown."""
    by_smtp: bool = True
    """False: it was said by what is no mail server, such as a webhook."""
    last_attempt: InstantField | None = None
    will_retry_until: InstantField | None = None

    @property
    def heard(self) -> bool:
        """Whether `diagnostic` is a next hop's reply, as far as the ledger can tell."""
        if self.reason in (Reason.EXPIRED, Reason.ATTEMPTS_USED_UP):
            return self.remote_mta is not None and self.cause in (None, Reason.NEXT_HOP_REPLY)
        return self.reason in (None, Reason.NEXT_HOP_REPLY)


class Report(BaseModel):
    """Everything a report is made of; the same values always give the same octets."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    report_id: Annotated[str, Field(pattern=_REPORT_ID)]
    """The message id of the report itself (not of the message that it reports on)."""
    reporting_mta: HostName
    composed_at: InstantField
    reverse_path: MailboxField
    """Who gets the report: the reverse-path of the original message."""
    recipients: tuple[ReportedRecipient, ...] = Field(min_length=1)
    arrival_date: InstantField | None = None
    received_from: str | None = None
    """The client that handed the message in: `mail.example.com ([192.0.2.1])`."""
    envid: str | None = None
    """The ENVID parameter as the client gave it, xtext and all (RFC 3461 §4.4)."""
    original_headers: bytes = Field(default=b"", max_length=MAX_RETURNED_HEADERS)
    """The header section to return, see `header_section`; empty: nothing is returned."""
    original_message: bytes = Field(default=b"", max_length=MAX_FULL_MESSAGE)
    """The whole message to return (RFC 3461 §4.3, RET=FULL); where it cannot travel as it is, of it the
    header section."""
    international: bool = False
    """The original was sent with SMTPUTF8, so its sender can read addresses beyond ASCII (RFC 6533)."""
    template: ReportTemplate = ReportTemplate()


@dataclass(frozen=True, slots=True)
class ParsedRecipient:
    """A per-recipient group as read; addresses decoded, without their type."""

    final_recipient: str
    action: Action
    status: EnhancedStatusCode
    original_recipient: str | None = None
    """`<address-type>;<address>`."""
    remote_mta: str | None = None
    diagnostic_type: str | None = None
    """`smtp`, or `x-empath` for a refusal in the reporting relay's own words."""
    diagnostic: str | None = None
    last_attempt: datetime | None = None
    will_retry_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ParsedReport:
    """A report as read. Fields that the report left out are None."""

    reporting_mta: str
    recipients: tuple[ParsedRecipient, ...]
    message_id: str | None = None
    to: str | None = None
    subject: str | None = None
    envid: str | None = None
    arrival_date: datetime | None = None
    received_from: str | None = None
    original_headers: bytes = b""
    original_message: bytes = b""
    text: str = ""


def header_section(prefix: bytes, limit: int = MAX_RETURNED_HEADERS) -> bytes:
    """The header section of the message that begins with `prefix`, at most `limit` octets of it.

    Ends before the empty line, or before the first line that is no header field, and is cut
    between two fields. Of a `prefix` that is cut inside of a field that field is left out.
    """
    window = prefix[: limit + 2]  # an empty line right behind the limit still ends the section
    end = start = 0
    while start < len(window):
        stop = window.find(b"\r\n", start)
        if stop < 0:
            return prefix[:end]
        line = window[start:stop]
        if not line:
            return window[:start]
        if not line.startswith((b" ", b"\t")):
            end = start  # the fields before this one are whole
            if not _FIELD.match(line):
                return prefix[:end]
        elif start == 0:
            return b""
        start = stop + 2
    return window if len(prefix) < limit else prefix[:end]


# field-name = 1*ftext ":" (RFC 5322 §3.6.8; white space before the colon is obs-optional, §4.5)
_FIELD = re.compile(rb"[\x21-\x39\x3b-\x7e]+[ \t]*:")
