"""Whether a site takes mail quickly, as all workers know it: one of them tries, and the others look.

    phase    comes from                          what mail for the site does
    FREE     nobody knows, or not any more       whoever asks first tries
    TRYING   a trial of QUICK at the most        waits for its end
    WORKS    a trial that was over in time       goes
    SLOW     a trial that was not, or was told   goes by a lane of its own

A trial of which nobody told the end within QUICK is a slow one: so it need not be told by a worker that is
busy with it, nor by one that died. Phases follow from what is stored, and from the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

QUICK = timedelta(seconds=5)
"""A usual delivery takes one or two; servers that let a client wait before their greeting, as Postfix's
postscreen does, take six for the first message of a connection and none for the next."""

WORKS_FOR = timedelta(minutes=15)
SLOW_FOR = timedelta(minutes=5)
"""Then it is tried anew, by one delivery."""


class TrialPhase(StrEnum):
    FREE = "free"
    TRYING = "trying"
    WORKS = "works"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Trial:
    state: Literal["trying", "works", "slow"]
    until: datetime
    owner: str = ""
    """Who tries; of no meaning afterwards."""

    @classmethod
    def begun(cls, owner: str, now: datetime) -> Trial:
        return cls("trying", now + QUICK, owner)

    @classmethod
    def worked(cls, now: datetime) -> Trial:
        return cls("works", now + WORKS_FOR)

    @classmethod
    def slow(cls, now: datetime) -> Trial:
        return cls("slow", now + SLOW_FOR)

    @property
    def forgotten_at(self) -> datetime:
        """When it says nothing any more."""
        return self.until + SLOW_FOR if self.state == "trying" else self.until

    def phase(self, now: datetime) -> TrialPhase:
        if now >= self.forgotten_at:
            return TrialPhase.FREE
        if self.state == "trying" and now >= self.until:
            return TrialPhase.SLOW
        return TrialPhase(self.state)


def may_begin(known: Trial | None, owner: str, now: datetime) -> bool:
    """Whether a trial may begin; once more by its owner, who may not have heard the answer."""
    return known is None or known.phase(now) is TrialPhase.FREE or known.owner == owner
