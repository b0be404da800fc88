"""Connections to a site: never more than its limit over all workers, one conditional write for each.

What a worker gives back while another delivery of the same worker waits is handed over, without a call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from empath.domain.errors import ControlTrouble
from empath.pipeline.gates_reach import Reach
from empath.ports import Clock
from empath.ports.gates import Gates

CloseIdle = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ConnectionSlot:
    """The right to one connection, until `until`; without a number while the store could not be asked."""

    site: str
    number: int | None
    owner: str
    until: datetime


@dataclass(slots=True)
class _Site:
    in_use: int = 0
    arriving: int = 0
    """Who is about to ask, or to wait. Its lock alone does not tell: it is free for a moment from one to the
    next."""
    is_full: bool = False
    """All numbers were taken when last somebody asked."""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: deque[asyncio.Future[ConnectionSlot | None]] = field(default_factory=deque)


class ConnectionSlots:
    def __init__(self, gates: Gates, clock: Clock, reach: Reach, close_idle: CloseIdle | None = None) -> None:
        """`close_idle` closes a connection to the site that is kept open for nobody, if there is one."""
        self._gates, self._clock, self._reach = gates, clock, reach
        self._close_idle = close_idle
        self._sites: dict[str, _Site] = {}

    async def take(self, site: str, *, limit: int, owner: str, until: datetime) -> ConnectionSlot | None:
        """The right to a connection, once this worker has one free; None when others have them all."""
        here = self._sites.setdefault(site, _Site())
        here.arriving += 1
        try:
            async with here.asking:
                if not (here.is_full and here.in_use):
                    slot = await self._ask(here, site, limit, owner, until)
                    if slot is not None:
                        here.in_use += 1
                        return slot
                if not here.in_use:
                    return None
                waiting: asyncio.Future[ConnectionSlot | None] = asyncio.get_running_loop().create_future()
                here.waiting.append(waiting)
        finally:
            here.arriving -= 1
        return await waiting

    async def _ask(
        self, here: _Site, site: str, limit: int, owner: str, until: datetime
    ) -> ConnectionSlot | None:
        if not self._reach.is_alone_with(site):
            try:
                number = await self._gates.take_connection(
                    site, limit=limit, owner=owner, now=self._clock.now(), until=until
                )
                here.is_full = number is None
                return None if number is None else ConnectionSlot(site, number, owner, until)
            except ControlTrouble as error:
                self._reach.let_down(f"taking a connection to {site}", error, site)
        here.is_full = here.in_use >= limit
        return None if here.is_full else ConnectionSlot(site, None, owner, until)

    async def release(self, slot: ConnectionSlot) -> None:
        """Give it to whoever waits for one here, or else back. Never raises: its lease ends by itself."""
        here = self._sites[slot.site]
        is_passed_on = here.waiting and self._clock.now() < slot.until
        if self._close_idle is not None and not is_passed_on:
            await self._close_idle(slot.site)
        is_ours = self._clock.now() < slot.until
        while here.waiting and (is_ours or here.in_use == 1):
            waiting = here.waiting.popleft()
            if not waiting.done():
                # Who gets none waits elsewhere: the worker's time is over, and nobody is left to wait for.
                waiting.set_result(slot if is_ours else None)
                if is_ours:
                    return
        here.in_use -= 1
        here.is_full = False
        if not here.in_use and not here.waiting and not here.arriving:
            del self._sites[slot.site]
        if slot.number is None or self._reach.is_alone_with(slot.site):
            return
        try:
            await self._gates.release_connection(slot.site, slot.number, owner=slot.owner)
        except ControlTrouble as error:
            self._reach.let_down(f"releasing a connection to {slot.site}", error, slot.site)
