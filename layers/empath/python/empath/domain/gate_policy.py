"""What the operator decides about the gates of a site: how fast, how often in vain, how many at once.

Every domain has its own settings, and domains with the same mail exchangers share the gate: the limit that
counts is the one of the domain whose mail asks. What is to hold for all mail of a site is set for all its
domains, or for `*`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from empath.domain.slots import Pace

MAX_CONNECTIONS = 1000
MAX_SHARDS = 64

_RATE = re.compile(r"(?P<messages>[0-9]{1,7})/(?P<unit>s|min|h|d)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


def _checked_rate(text: str) -> str:
    match = _RATE.fullmatch(text)
    if match is None or not int(match["messages"]):
        raise ValueError("write so many messages in a unit of time: 10/s, 60/min, 1000/h or 5000/d")
    return text


def _written_short(value: Any) -> Any:
    """`60/min` for `{"limit": "60/min"}`."""
    return {"limit": value} if isinstance(value, str) else value


class RatePolicy(BaseModel):
    """How many messages a site is given in a time (a delivery to many recipients is one message)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Annotated[str, AfterValidator(_checked_rate)]
    """`10/s`, `60/min`, `1000/h` or `5000/d`, spread evenly over the unit."""
    burst: int = Field(default=1, ge=1, le=10_000)
    """How many may go at once after a pause; in any time t there are never more than limit * t + burst."""
    shards: int = Field(default=1, ge=1, le=MAX_SHARDS)
    """Items that share the limit: one takes some 1000 updates a second, each for many messages."""

    @model_validator(mode="after")
    def _shards_fit(self) -> RatePolicy:
        if self.shards > self.burst:
            raise ValueError("shards must not be more than burst: each shard lets at least one message go")
        return self

    @property
    def pace(self) -> Pace:
        """Of one shard. Intervals are rounded up to microseconds: never faster than the limit."""
        return self._pace(self.shards)

    @property
    def whole_pace(self) -> Pace:
        """Of all shards together."""
        return self._pace(1)

    def _pace(self, shards: int) -> Pace:
        match = _RATE.fullmatch(self.limit)
        if match is None:
            raise ValueError(f"no rate: {self.limit}")
        period = _SECONDS[match["unit"]] * 1_000_000 * shards
        return Pace(interval=-(-period // int(match["messages"])), burst=self.burst // shards)


class CircuitPolicy(BaseModel):
    """When a site that fails is let alone; all times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    failures: int = Field(default=5, ge=1, le=100)
    """Temporary failures within `window`, without a success between them, that open the circuit."""
    window: float = Field(default=60, gt=0, le=3600)
    open_for: float = Field(default=300, ge=1, le=86_400)
    """Then one probe may go."""
    initial_connections: int = Field(default=1, ge=1, le=100)
    """Deliveries of a worker that try a site at a time while nothing says that it works."""


Rate = Annotated[RatePolicy, BeforeValidator(_written_short)]
