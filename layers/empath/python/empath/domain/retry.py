"""When a deferred delivery is tried again, when its sender hears of it, and when it is given up."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_EXPIRY = 30 * 86_400
"""Seconds after its receipt that a message may be tried at the longest, whatever policy says."""


class HintPolicy(BaseModel):
    """How far a next hop has a say in when it is tried again; all times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    shortest: float | None = Field(default=None, gt=0, le=86_400)
    """Less than this is not believed; None: a quarter of the policy's first delay."""
    longest: float = Field(default=3600, gt=0, le=86_400)
    """What asks for more gets this, or the usual delay where that is longer."""

    @model_validator(mode="after")
    def _bounds_fit(self) -> HintPolicy:
        if self.shortest is not None and self.shortest > self.longest:
            raise ValueError("shortest must not be more than longest")
        return self


class RetryPolicy(BaseModel):
    """Exponential backoff with jitter; all times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_delay: float = Field(default=60, gt=0, le=86_400)
    factor: float = Field(default=2, ge=1, le=10)
    max_delay: float = Field(default=86_400, gt=0, le=7 * 86_400)
    jitter: float = Field(default=0.2, ge=0, lt=1)
    max_attempts: int = Field(default=25, ge=1, le=1000)
    expiry: float = Field(default=5 * 86_400, gt=0, le=MAX_EXPIRY)
    delay_report_after: float | None = Field(default=4 * 3600, gt=0, le=30 * 86_400)
    """From receipt; the first deferral after that tells the sender. None: no report says `delayed`."""
    hints: HintPolicy = HintPolicy()
    """For a 4xx reply that says how long to wait."""

    @model_validator(mode="after")
    def _delays_fit(self) -> RetryPolicy:
        if self.first_delay > self.max_delay:
            raise ValueError("first_delay must not be longer than max_delay")
        return self

    def is_late(self, *, received_at: datetime, now: datetime) -> bool:
        """Whether a recipient that is deferred at `now` has waited long enough to tell the sender."""
        after = self.delay_report_after
        return after is not None and now - received_at >= timedelta(seconds=after)

    def delay(
        self, attempt: int, random: float, *, hint: int | None = None, is_new: bool = True
    ) -> timedelta:
        """The wait after `attempt` (1 for the first); `random` is uniform in [0, 1).

        `hint` is what the next hop asked for, in seconds. A longer wait than usual it gets at any time, a
        shorter one only when `is_new`, when it had asked for none before: a next hop that says the same every
        time would use up in hours the attempts that are meant for days.
        """
        usual = self._usual_delay(attempt, random)
        if hint is None or not self.hints.enabled:
            return usual
        longest = self.hints.longest
        shortest = self.first_delay / 4 if self.hints.shortest is None else self.hints.shortest
        # Never before the time: it would be told to wait again, and often longer. So jitter only adds.
        asked = timedelta(seconds=min(max(hint, shortest), longest) * (1 + self.jitter * random))
        is_shortcut = is_new and hint <= longest and hint < usual.total_seconds()
        return asked if is_shortcut else max(asked, usual)

    def _usual_delay(self, attempt: int, random: float) -> timedelta:
        # The exponent is bounded so that a large attempt number cannot overflow a float.
        grown = self.first_delay * self.factor ** min(attempt - 1, 300)
        return timedelta(seconds=min(grown, self.max_delay) * (1 + self.jitter * (2 * random - 1)))

    def next_attempt(
        self,
        *,
        attempt: int,
        now: datetime,
        expires: datetime,
        random: float,
        hint: int | None = None,
        is_new: bool = True,
    ) -> datetime | None:
        """When to try after deferred `attempt`, or None to give up.

        The last attempt is made at the moment of expiry, however long the delay would be. See `delay` for
        `hint` and `is_new`.
        """
        if attempt >= self.max_attempts or now >= expires:
            return None
        return min(now + self.delay(attempt, random, hint=hint, is_new=is_new), expires)
