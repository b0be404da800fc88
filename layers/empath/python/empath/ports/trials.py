"""What all workers know of how quickly a site takes mail (domain.trial has the rules).

Every method raises ControlTrouble when the store does not answer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from empath.domain.trial import Trial


class Trials(Protocol):
    async def begin(self, site: str, *, owner: str, now: datetime) -> Trial:
        """Begin a trial if one may begin (`may_begin`); the one that is in force then, ours by its owner."""

    async def end(self, site: str, trial: Trial | None) -> None:
        """What is known from now on, whoever said what before; None: nothing."""
