"""A site that takes long over each message keeps workers busy, and other sites' mail would wait for them: so
its mail goes by a lane of its own, and finding out costs one worker's time and no more.

    ask    by one delivery, of one worker, a site is tried that nothing was heard of lately; the others wait
           where they are while that may be quick (QUICK), and go by the lane of slow sites from then on
    ended  what the attempt brought: the site is quick, or slow, or it failed, and another one may try

What works is known to a worker for WORKS_FOR after its own or another's attempt. So a busy site costs a call
or two for each worker and quarter of an hour, and so does a message to a site that is seen once a day. The
lane of slow sites asks nobody. When the store does not answer, mail goes as if the site were quick.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from empath.domain.errors import ControlTrouble
from empath.domain.gate import HeldBack
from empath.domain.reason import Reason
from empath.domain.trial import QUICK, SLOW_FOR, WORKS_FOR, Trial, TrialPhase
from empath.pipeline.gates_reach import Reach
from empath.ports import Clock, Metrics
from empath.ports.trials import Trials

WEIGHT = 0.1
"""Of the newest attempt in a site's mean: one slow message among many quick ones makes no slow site."""

LOOKS, PAUSE = 4, 0.3
"""How often, and after how many seconds, somebody else's trial is looked at before the job is put off."""

SLOW_IS_FRESH_FOR = timedelta(seconds=30)
"""When a site that others call slow is asked about again."""

MAX_KNOWN = 10_000


class Lane(Enum):
    USUAL = auto()
    SLOW = auto()


@dataclass(slots=True)
class _Site:
    takes: float | None = None
    """Seconds of an attempt, the mean of late."""
    works_until: datetime | None = None
    slow_until: datetime | None = None
    told_at: datetime | None = None
    """When this worker told last that the site is slow."""
    trial: asyncio.Future[None] | None = None
    """Done when the trial that this worker makes, or asks for, is over."""
    trial_until: datetime | None = None


class SlowSites:
    """What one process knows; it lives as long as the process."""

    def __init__(self, trials: Trials, clock: Clock, metrics: Metrics) -> None:
        self._trials, self._clock = trials, clock
        self._reach = Reach(clock, metrics)
        self._sites: OrderedDict[str, _Site] = OrderedDict()
        self._owners: dict[str, str] = {}
        """Who of this process tries which site."""

    def takes(self, name: str) -> float:
        """Seconds that an attempt at the site takes, as far as is known; else 0."""
        site = self._sites.get(name)
        return (site.takes if site is not None else None) or 0.0

    async def ask(self, name: str, *, owner: str, time_left: Callable[[], float]) -> Lane | HeldBack:
        """Which lane mail for a site goes by, or when to ask again. End what goes with `ended`."""
        site, looks = self._site(name), 0
        while True:
            now = self._clock.now()
            if site.slow_until is not None and now < site.slow_until:
                return Lane.SLOW
            if site.works_until is not None and now < site.works_until:
                return Lane.USUAL
            if self._reach.is_alone:
                return Lane.USUAL
            if site.trial is not None and not site.trial.done():
                left = ((site.trial_until or now) - now).total_seconds()
                if left <= 0:
                    return Lane.SLOW
                if time_left() < left:
                    return HeldBack(Reason.CONNECTIONS_IN_USE, now + QUICK)
                await self._until_over(site.trial, left)
                continue
            trial = await self._begin(name, site, owner)
            if trial is None:
                return Lane.USUAL
            match trial.phase(now):
                case TrialPhase.WORKS:
                    site.works_until = trial.until
                case TrialPhase.SLOW:
                    site.slow_until = min(trial.forgotten_at, now + SLOW_IS_FRESH_FOR)
                case _:
                    looks += 1
                    if looks > LOOKS or time_left() < PAUSE:
                        soon = max(trial.until, now + timedelta(seconds=1))
                        return HeldBack(Reason.CONNECTIONS_IN_USE, soon)
                    await self._clock.sleep(PAUSE)

    async def _begin(self, name: str, site: _Site, owner: str) -> Trial | None:
        """Somebody else's trial, or what came of it; None when the site is ours to try."""
        now = self._clock.now()
        asked = site.trial = asyncio.get_running_loop().create_future()
        site.trial_until = now + QUICK
        try:
            trial = await self._trials.begin(name, owner=owner, now=now)
        except ControlTrouble as error:
            self._reach.let_down(f"beginning a trial of {name}", error)
            trial = None
        except BaseException:
            _over(asked)
            raise
        if trial is not None and trial.owner == owner:
            self._owners[name] = owner
            return None
        _over(asked)
        return trial

    async def _until_over(self, trial: asyncio.Future[None], seconds: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({trial, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()

    async def ended(
        self, name: str, *, owner: str, took: float, is_good: bool | None, lane: Lane = Lane.USUAL
    ) -> None:
        """What was asked for, or a delivery of the slow lane, is over, after an attempt of `took` seconds.
        Never raises.

        `is_good`: the site took the mail or refused it for good; None: there was no attempt, or it says
        nothing about the site.
        """
        site, now = self._site(name), self._clock.now()
        is_trial = self._owners.get(name) == owner
        try:
            if is_good is not None:
                is_news = is_trial or lane is Lane.SLOW
                await self._learn(
                    name, site, took, now=now, is_good=is_good, is_trial=is_trial, is_news=is_news
                )
            elif is_trial:
                await self._trials.end(name, None)
        except ControlTrouble as error:
            self._reach.let_down(f"ending a trial of {name}", error)
        finally:
            if is_trial:
                del self._owners[name]
                if site.trial is not None:
                    _over(site.trial)

    async def _learn(
        self,
        name: str,
        site: _Site,
        took: float,
        *,
        now: datetime,
        is_good: bool,
        is_trial: bool,
        is_news: bool,
    ) -> None:
        quick = QUICK.total_seconds()
        if is_good or took > quick:
            before = took if site.takes is None else site.takes
            site.takes = before + WEIGHT * (took - before)
        if site.takes is not None and site.takes > quick:
            site.works_until, site.slow_until = None, now + SLOW_FOR
            if is_trial or site.told_at is None or now - site.told_at > SLOW_FOR / 2:
                site.told_at = now
                await self._trials.end(name, Trial.slow(now))
        elif not is_good:
            if is_trial:
                await self._trials.end(name, None)
        else:
            is_known = site.works_until is not None and now < site.works_until
            site.slow_until, site.works_until = None, now + WORKS_FOR
            if is_news and not is_known:
                await self._trials.end(name, Trial.worked(now))

    def _site(self, name: str) -> _Site:
        site = self._sites.get(name)
        if site is None:
            site = self._sites[name] = _Site()
            if len(self._sites) > MAX_KNOWN:
                idle = next((other for other in self._sites if other not in self._owners), None)
                if idle is not None:
                    del self._sites[idle]
        self._sites.move_to_end(name)
        return site


def _over(trial: asyncio.Future[None]) -> None:
    if not trial.done():
        trial.set_result(None)
