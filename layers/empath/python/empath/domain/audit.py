"""What an operator can prove: audit records, one line of JSON each.

A line says what happened in words that stand by themselves. `id` is the same whenever the same change is
told again, so whoever reads lines twice counts them once. Fields are only ever added within `v` 1.

What operators do to a delivery is one line, told by the journal with the change itself. What they do to
anything else has no stream to follow: a line `asked` goes before it and one that is `done` or `failed`
follows, so that nothing is done without a line. The ids of the two differ in their ends.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from empath.domain.classification import TroubleClass
from empath.domain.delivery_state import State
from empath.domain.instant import InstantField

AuditType = Literal[
    "MessageReceived", "DeliveryAttempt", "DeliverySuccess", "DeliveryFailure", "OperatorAction"
]


class AuditRecord(BaseModel):
    """One line; fields that say nothing about a type are left out of it."""

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1
    id: str
    """The change that it tells (the stream's event id) and its place among that change's records."""
    type: AuditType
    at: InstantField
    message_id: str | None = None
    tenant: str | None = None

    # MessageReceived
    reverse_path: str | None = None
    """Empty for the null reverse-path."""
    size: int | None = None
    """Octets."""
    client: str | None = None
    helo: str | None = None
    user: str | None = None
    client_tls: str | None = None
    report_of: str | None = None

    # DeliveryAttempt, DeliverySuccess, DeliveryFailure
    delivery: str | None = None
    domain: str | None = None
    attempt: int | None = None
    next_hop: str | None = None
    reply: str | None = None
    reason: str | None = None
    trouble: TroubleClass | None = None

    # DeliveryAttempt
    recipients: dict[str, State] | None = None
    """What became of whom."""
    duration: float | None = None
    """Seconds; missing for an attempt whose worker never came to a record."""
    tls: str | None = None
    ambiguous: bool | None = None

    # DeliverySuccess, DeliveryFailure
    recipient: str | None = None
    state: State | None = None

    # OperatorAction
    operator: str | None = None
    """The caller's identity, as IAM has it."""
    action: str | None = None
    """What was asked for, as on the command line: `queue hold`, `suppress add`."""
    target: str | None = None
    """What it was done to, where that is no delivery."""
    result: Literal["asked", "done", "failed"] | None = None
    """`asked` is written before something is done, and tells of an attempt even if no other line follows."""
    before: str | None = None
    after: str | None = None
    problem: str | None = None
    """Why it failed."""

    def line(self) -> str:
        """The record as JSON without its line end."""
        return self.model_dump_json(exclude_none=True)
