"""Of a tenant: whether the content of its messages is kept once they are settled, and for how long."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Keep = Literal["none", "failed", "all"]
KeepDays = Literal[1, 7, 30, 90, 365]
KEEP_DAYS: tuple[KeepDays, ...] = (1, 7, 30, 90, 365)
"""What the store has a rule for; it removes what is over its time by itself."""


class ContentPolicy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: Keep = "none"
    """`failed`: of messages that a recipient did not get, because it failed, expired or was deleted."""
    days: KeepDays = 30
    """From the moment that a message is settled."""
