"""Slots: whoever asks for the same site at the same time shares one update."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from empath.domain.errors import ControlTrouble
from empath.domain.gate_policy import RatePolicy
from empath.domain.slots import from_micros, reserve, to_micros
from empath.pipeline.gates_reach import Reach
from empath.ports import Clock, IdSource
from empath.ports.gates import Gates

Asker = asyncio.Future[datetime]


class Reservations:
    """The slots that this process asks for.

    The first to ask starts an update once everybody who is about to ask has done so; those who come while
    it is under way are the next update. So a busy process makes one after the other, whatever its batch.
    """

    def __init__(self, gates: Gates, clock: Clock, ids: IdSource, reach: Reach) -> None:
        self._gates, self._clock, self._ids, self._reach = gates, clock, ids, reach
        self._askers: dict[tuple[str, RatePolicy], list[Asker]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._own: dict[str, int] = {}
        """What a site's number would be, had nobody but this process reserved while the store was away."""

    async def slot(self, site: str, rate: RatePolicy) -> datetime:
        """The next free slot of a site; ours with the answer."""
        asker: Asker = asyncio.get_running_loop().create_future()
        askers = self._askers.get((site, rate))
        if askers is None:
            self._askers[site, rate] = [asker]
            task = asyncio.create_task(self._serve(site, rate))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            askers.append(asker)
        return await asker

    async def _serve(self, site: str, rate: RatePolicy) -> None:
        askers: list[Asker] = []
        try:
            while True:
                await asyncio.sleep(0)
                askers, self._askers[site, rate] = self._askers[site, rate], []
                if not askers:
                    return
                slots = await self._reserve(site, len(askers), rate)
                for asker, slot in zip(askers, slots, strict=True):
                    if not asker.done():
                        asker.set_result(slot)
        except BaseException as error:
            for asker in (*askers, *self._askers[site, rate]):
                if not asker.done():
                    asker.set_exception(
                        error if isinstance(error, Exception) else ControlTrouble("the worker ends")
                    )
            raise
        finally:
            del self._askers[site, rate]

    async def _reserve(self, site: str, count: int, rate: RatePolicy) -> Sequence[datetime]:
        now = self._clock.now()
        if not self._reach.is_alone:
            shard = int(self._ids.random() * rate.shards)
            try:
                slots = await self._gates.reserve(site, count, pace=rate.pace, now=now, shard=shard)
                self._own.pop(site, None)
                return slots
            except ControlTrouble as error:
                self._reach.let_down(f"reserving slots of {site}", error)
        own, self._own[site] = reserve(self._own.get(site), count, pace=rate.whole_pace, now=to_micros(now))
        return [from_micros(slot) for slot in own]
