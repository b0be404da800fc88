"""Trials in memory."""

from __future__ import annotations

from datetime import datetime

from empath.domain.trial import Trial, may_begin


class MemoryTrials:
    """`updates` counts what would be writes."""

    def __init__(self) -> None:
        self.known: dict[str, Trial] = {}
        self.updates = 0

    async def begin(self, site: str, *, owner: str, now: datetime) -> Trial:
        self.updates += 1
        known = self.known.get(site)
        if known is None or may_begin(known, owner, now):
            known = self.known[site] = Trial.begun(owner, now)
        return known

    async def end(self, site: str, trial: Trial | None) -> None:
        self.updates += 1
        if trial is None:
            self.known.pop(site, None)
        else:
            self.known[site] = trial
