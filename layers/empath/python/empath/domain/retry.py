"""When a deferred delivery is tried again, when its sender hears of it, and when it is given up."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, model_validator


class RetryPolicy(BaseModel):
    """Exponential backoff with jitter; all times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_delay: float = Field(default=60, gt=0, le=86_400)
    factor: float = Field(default=2, ge=1, le=10)
    max_delay: float = Field(default=86_400, gt=0, le=7 * 86_400)
    jitter: float = Field(default=0.2, ge=0, lt=1)
    max_attempts: int = Field(default=25, ge=1, le=1000)
    expiry: float = Field(default=5 * 86_400, gt=0, le=30 * 86_400)
    delay_report_after: float | None = Field(default=4 * 3600, gt=0, le=30 * 86_400)
    """From receipt; the first deferral after that tells the sender. None: no report says `delayed`."""

    @model_validator(mode="after")
    def _delays_fit(self) -> RetryPolicy:
        if self.first_delay > self.max_delay:
            raise ValueError("first_delay must not be longer than max_delay")
        return self

    def is_late(self, *, received_at: datetime, now: datetime) -> bool:
        """Whether a recipient that is deferred at `now` has waited long enough to tell the sender."""
        after = self.delay_report_after
        return after is not None and now - received_at >= timedelta(seconds=after)

    def delay(self, attempt: int, random: float) -> timedelta:
        """The wait after `attempt` (1 for the first); `random` is uniform in [0, 1)."""
        # The exponent is bounded so that a large attempt number cannot overflow a float.
        grown = self.first_delay * self.factor ** min(attempt - 1, 300)
        return timedelta(seconds=min(grown, self.max_delay) * (1 + self.jitter * (2 * random - 1)))

    def next_attempt(
        self, *, attempt: int, now: datetime, expires: datetime, random: float
    ) -> datetime | None:
        """When to try after deferred `attempt`, or None to give up.

        The last attempt is made at the moment of expiry, however long the delay would be.
        """
        if attempt >= self.max_attempts or now >= expires:
            return None
        return min(now + self.delay(attempt, random), expires)
