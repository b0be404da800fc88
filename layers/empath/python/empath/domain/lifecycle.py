"""What an application hears of its mail: one event per recipient and change, for an event bus.

The JSON schema of `LifecycleEvent` is published as docs/schemas/lifecycle-event.json. Fields are only ever
added within `v` 1. An event may come twice, with the same `id`.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from empath.domain.classification import TroubleClass
from empath.domain.delivery_state import State
from empath.domain.instant import InstantField

LifecycleType = Literal["sent", "deferred", "held", "failed", "expired", "cancelled"]
LIFECYCLE_TYPES: tuple[LifecycleType, ...] = get_args(LifecycleType)
DEFAULT_TYPES: tuple[LifecycleType, ...] = ("deferred", "failed", "expired", "held")

SOURCE = "empath"
"""The `source` of our events on the bus."""


class LifecycleEvent(BaseModel):
    """What became of one recipient."""

    model_config = ConfigDict(frozen=True, title="Empath lifecycle event")

    v: Literal[1] = 1
    id: str = Field(description="The same whenever the same change is told again.")
    type: LifecycleType
    at: InstantField = Field(description="When the change was written, to the second or better.")
    message_id: str
    delivery: str = Field(description="The delivery's sort key in the ledger.")
    domain: str
    tenant: str | None = None
    recipient: str
    attempt: int = Field(ge=0, description="The attempt that led here; 0 where none did.")
    next_hop: str | None = None
    reply: str | None = Field(None, description="The next hop's words, or ours, on one line.")
    status: str | None = Field(None, description="The enhanced status code (RFC 3463).")
    reason: str | None = None
    trouble: TroubleClass | None = Field(None, description="docs/CLASSIFICATION.md")
    next_attempt_at: InstantField | None = None

    @property
    def detail_type(self) -> str:
        """The `detail-type` on the bus, such as `Delivery Deferred`."""
        return f"Delivery {self.type.capitalize()}"

    def detail(self) -> str:
        """JSON, without what is not known."""
        return self.model_dump_json(exclude_none=True)


def type_of(state: State) -> LifecycleType | None:
    """What a recipient's state is called on the bus; None for one that nobody is told of."""
    return _TYPES.get(state)


_TYPES: dict[State, LifecycleType] = {
    State.SENT: "sent",
    State.DEFERRED: "deferred",
    State.HELD: "held",
    State.FAILED: "failed",
    State.EXPIRED: "expired",
    State.CANCELLED: "cancelled",
}
