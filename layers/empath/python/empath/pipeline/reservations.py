"""Slots: whoever asks for the same site at the same time shares one update."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from empath.domain.envelope import Priority
from empath.domain.errors import ControlTrouble
from empath.domain.gate_policy import MAX_SHARDS, RatePolicy
from empath.domain.line import Ask, Book, Turn, take_turns
from empath.domain.slots import Pace, from_micros, is_good, to_micros
from empath.pipeline.gates_reach import Reach
from empath.ports import Clock, IdSource
from empath.ports.gates import Gates


@dataclass(frozen=True, slots=True)
class _Group:
    """Who may share an update: those that come back with a place ask for other things than those without."""

    site: str
    rate: RatePolicy
    priority: Priority
    have_places: bool
    shard: int | None
    """Where those with places got them."""


@dataclass(frozen=True, slots=True)
class _Asker:
    place: datetime | None
    turn: asyncio.Future[Turn]


class Reservations:
    """The slots that this process asks for.

    The first to ask starts an update once everybody who is about to ask has done so; those who come while
    it is under way are the next update. So a busy process makes one after the other, whatever its batch.
    """

    def __init__(self, gates: Gates, clock: Clock, ids: IdSource, reach: Reach) -> None:
        self._gates, self._clock, self._ids, self._reach = gates, clock, ids, reach
        self._askers: dict[_Group, list[_Asker]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._own: dict[str, Book] = {}
        """What a site's book would be, had nobody but this process asked while the store was away."""

    async def turn(
        self, site: str, rate: RatePolicy, priority: Priority, *, place: datetime | None = None
    ) -> Turn:
        """A slot of a site, ours with the answer; or a place, to come back with when its time has come."""
        shard = None if place is None else _shard_of(place, rate)
        group = _Group(site, rate, priority, place is not None, shard)
        asker = _Asker(place, asyncio.get_running_loop().create_future())
        askers = self._askers.get(group)
        if askers is None:
            self._askers[group] = [asker]
            task = asyncio.create_task(self._serve(group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            askers.append(asker)
        return await asker.turn

    async def _serve(self, group: _Group) -> None:
        askers: list[_Asker] = []
        try:
            while True:
                await asyncio.sleep(0)
                askers, self._askers[group] = self._askers[group], []
                if not askers:
                    return
                # Who was in front of the line is it still.
                askers.sort(key=lambda asker: asker.place or self._clock.now())
                turns = await self._take(group, askers)
                for asker, turn in zip(askers, turns, strict=True):
                    if not asker.turn.done():
                        asker.turn.set_result(turn)
        except BaseException as error:
            for asker in (*askers, *self._askers[group]):
                if not asker.turn.done():
                    asker.turn.set_exception(
                        error if isinstance(error, Exception) else ControlTrouble("the worker ends")
                    )
            raise
        finally:
            del self._askers[group]

    async def _take(self, group: _Group, askers: Sequence[_Asker]) -> Sequence[Turn]:
        site, rate = group.site, group.rate
        if not self._reach.is_alone_with(site):
            shard = int(self._ids.random() * rate.shards) if group.shard is None else group.shard
            try:
                turns = await self._gates.take_turns(site, self._ask(group, askers, rate.pace), shard=shard)
                self._own.pop(site, None)
                return [_marked(turn, shard, rate) for turn in turns]
            except ControlTrouble as error:
                self._reach.let_down(f"reserving slots of {site}", error, site)
        ask = self._ask(group, askers, rate.whole_pace)
        own, self._own[site] = take_turns(self._own.get(site, Book()), ask)
        return own

    def _ask(self, group: _Group, askers: Sequence[_Asker], pace: Pace) -> Ask:
        now = self._clock.now()
        place = askers[0].place
        if place is not None and not is_good(place, now, group.rate.whole_pace):
            place = now
        return Ask(
            group.priority, len(askers), pace, to_micros(now), None if place is None else to_micros(place)
        )


def _marked(turn: Turn, shard: int, rate: RatePolicy) -> Turn:
    """A place that says which shard's line it is in, by its last milliseconds (jobs keep no less): so nothing
    more has to be kept, and it comes some milliseconds early."""
    if turn.is_slot or rate.shards == 1:
        return turn
    millis = to_micros(turn.at) // 1000
    return Turn(from_micros((millis - millis % MAX_SHARDS + shard) * 1000), is_slot=False)


def _shard_of(place: datetime, rate: RatePolicy) -> int | None:
    if rate.shards == 1:
        return None
    shard = to_micros(place) // 1000 % MAX_SHARDS
    return shard if shard < rate.shards else None
