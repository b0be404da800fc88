"""What the operator decides about reports, and the words of their human part: `policy#tenant:<name>`.

A template is text with fields in the manner of `string.Template`: `$name` or `${name}`, `$$` for a dollar
sign. A field is replaced by text and nothing else; one that there is not is refused when the policy is read.
"""

from __future__ import annotations

from collections.abc import Callable
from string import Template
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from empath.domain.address import MailboxField
from empath.domain.content_policy import ContentPolicy
from empath.domain.suppression import SuppressionPolicy

MAX_TEMPLATE = 16_384
"""Characters; twenty screens, and far below what a DynamoDB item holds."""

MAX_FULL_MESSAGE = 4 * 1024 * 1024
"""Octets. A worker holds ten reports at a time, each some four times over while it is put together."""

SUBJECT_FIELDS = frozenset({"relay", "subject", "event"})
BODY_FIELDS = frozenset(
    {"relay", "subject", "event", "recipients", "received", "returned", "envelope_id", "report_id"}
)
RECIPIENT_FIELDS = frozenset({"address", "original", "why", "reply", "advice", "server", "status", "until"})


def _checked(known: frozenset[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        template = Template(text)
        if not template.is_valid():
            raise ValueError("a $ that begins no field: write $$ for a dollar sign")
        for name in template.get_identifiers():
            if name not in known:
                raise ValueError(f"unknown field ${name}: there are {', '.join(sorted(known))}")
        return text

    return check


_Text = Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE)]


class ReportTemplate(BaseModel):
    """The operator's words in place of ours; what is None stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: Annotated[_Text, AfterValidator(_checked(SUBJECT_FIELDS))] | None = None
    body: Annotated[_Text, AfterValidator(_checked(BODY_FIELDS))] | None = None
    recipient: Annotated[_Text, AfterValidator(_checked(RECIPIENT_FIELDS))] | None = None
    """What `$recipients` says about each of them."""


class ReportPolicy(BaseModel):
    """Whether reports are sent, to whom, how many, and with what in them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    send_to: MailboxField | None = None
    """Instead of the reverse-path; a message with the null reverse-path is not reported to anybody."""
    max_per_hour: int | None = Field(default=1000, ge=1)
    """To one address, whatever sent the messages; None: as many as there are."""
    full_message_up_to: int = Field(default=1024 * 1024, ge=0, le=MAX_FULL_MESSAGE)
    """Octets of a message that RET=FULL returns whole; of a larger one the header section."""
    template: ReportTemplate = ReportTemplate()


class TenantPolicy(BaseModel):
    """The settings of one tenant, defaults filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reports: ReportPolicy = ReportPolicy()
    suppression: SuppressionPolicy = SuppressionPolicy()
    content: ContentPolicy = ContentPolicy()
