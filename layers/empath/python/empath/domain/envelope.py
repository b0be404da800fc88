"""What a client hands over beside the content: the envelope, and where it came from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from empath.domain.address import MailboxField

Priority = Literal["high", "normal", "bulk"]


class Recipient(BaseModel):
    """One forward-path with its DSN parameters (RFC 3461 §4)."""

    model_config = ConfigDict(frozen=True)

    mailbox: MailboxField
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None


class Envelope(BaseModel):
    """RFC 5321 §2.3.1; `reverse_path` None is the null reverse-path `<>`."""

    model_config = ConfigDict(frozen=True)

    reverse_path: MailboxField | None
    recipients: tuple[Recipient, ...] = Field(min_length=1)
    eight_bit: bool = False
    """BODY=8BITMIME was declared (RFC 6152)."""
    smtputf8: bool = False
    envid: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None


class Source(BaseModel):
    """Who handed the message in."""

    model_config = ConfigDict(frozen=True)

    client: str | None = None
    """The client's IP address; None for a report of our own."""
    helo: str | None = None
    user: str | None = None
    tls: str | None = None
    report_of: str | None = None
    """For a report: `<message id>/<delivery>/<event>`."""


Metadata = dict[str, Any]
