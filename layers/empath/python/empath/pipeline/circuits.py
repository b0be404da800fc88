"""The circuits of sites as one worker knows them, so that mail for a site that works asks nobody.

A process reads one item, the names of the sites whose circuit is not closed, at most once in FRESH_FOR,
and the circuit of a site only while its name is there. It writes when an attempt failed, when one succeeded
although failures are counted, and when it probes. So a message that is sent at once costs no call of its own.

Beside that it is careful by itself, as Postfix is with its initial_destination_concurrency: a site that
nothing was heard of lately is tried by `initial_connections` (1) of this worker's deliveries at a time, and
the others wait for how those end. If nobody could be talked to, the failure counts for those who waited,
too; and before the next one tries, PAUSE passes, and the site is asked about: what other workers met
meanwhile counts as well. So a host that is dead from the start costs a worker two attempts, and N workers
that begin at the same moment N.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from empath.domain.circuit import CLOSED, Circuit, Happening, Phase, Signal, after
from empath.domain.errors import ControlTrouble
from empath.domain.gate_policy import CircuitPolicy
from empath.pipeline.gates_reach import Reach
from empath.ports import Clock
from empath.ports.gates import Gates

FRESH_FOR = timedelta(seconds=5)
"""How old what is known of others' circuits may be. An open period is sixty times as long; and who waited for
another worker's trial of a site (`domain.trial.QUICK`) looks again."""

PAUSE = timedelta(seconds=1)
"""Between a failed attempt at a site of which nothing says that it works and the next one: time for others
to tell of theirs."""

MAX_KNOWN = 10_000


@dataclass(slots=True)
class Site:
    """What this worker knows of a site."""

    circuit: Circuit = CLOSED
    read_at: datetime | None = None
    worked_at: datetime | None = None
    failed_at: datetime | None = None
    """When an attempt failed while nothing said that it works."""
    under_way: int = 0
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        return not (self.under_way or self.waiting or self.telling.locked())


class Circuits:
    def __init__(self, gates: Gates, clock: Clock, reach: Reach) -> None:
        self._gates, self._clock, self._reach = gates, clock, reach
        self._sites: OrderedDict[str, Site] = OrderedDict()
        self._troubled: frozenset[str] = frozenset()
        self._read_at: datetime | None = None
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Learn which circuits are not closed, if that is due. What is known stays when nobody answers."""
        async with self._reading:
            if self._is_fresh(self._read_at) or self._reach.is_alone:
                return
            asked_at = self._clock.now()
            try:
                self._troubled, self._read_at = await self._gates.troubled(), asked_at
            except ControlTrouble as error:
                self._reach.let_down("reading which circuits are open", error)

    async def circuit(self, name: str) -> Circuit:
        """The circuit of a site, as far as this worker knows."""
        await self.refresh()
        site = self._site(name)
        if name in self._troubled:
            await self._read(name, site)
        elif not site.circuit.is_closed and _is_later(self._read_at, site.read_at):
            site.circuit = CLOSED
        return site.circuit

    async def enter(self, name: str, policy: CircuitPolicy) -> bool:
        """Begin an attempt; False when others had to be waited for first: all is to be asked anew then."""
        site, now = self._site(name), self._clock.now()
        if not policy.enabled or self._is_proven(site, policy):
            site.under_way += 1
            return True
        circuit = site.circuit
        has_failed = circuit.phase(now) is not Phase.CLOSED or circuit.recent_failures(now, policy)
        if site.under_way >= (1 if has_failed else policy.initial_connections):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            site.waiting.append(turn)
            await turn
            return False
        if site.failed_at is not None and has_failed:
            # In the place of an attempt, so that nobody else of this worker makes one meanwhile.
            site.under_way += 1
            try:
                await self._look_around(name, site)
            finally:
                self.leave(name)
            return False
        site.under_way += 1
        return True

    async def _look_around(self, name: str, site: Site) -> None:
        """After a failure: give others time to tell of theirs, and see what is known then."""
        if site.failed_at is not None:
            pause = PAUSE - (self._clock.now() - site.failed_at)
            await self._clock.sleep(min(pause, PAUSE).total_seconds())
        site.failed_at = site.read_at = None
        await self._read(name, site)

    async def _read(self, name: str, site: Site) -> None:
        async with site.telling:
            if self._is_fresh(site.read_at) or self._reach.is_alone_with(name):
                return
            try:
                site.circuit, site.read_at = await self._gates.circuit(name), self._clock.now()
            except ControlTrouble as error:
                self._reach.let_down(f"reading the circuit of {name}", error, name)

    def _is_proven(self, site: Site, policy: CircuitPolicy) -> bool:
        """Whether it took mail lately."""
        if site.worked_at is None:
            return False
        return abs(self._clock.now() - site.worked_at) < timedelta(seconds=policy.window)

    def waiting(self, name: str) -> int:
        """How many wait for how others' attempts end."""
        return sum(not turn.done() for turn in self._site(name).waiting)

    def leave(self, name: str) -> None:
        """End what `enter` began, and let those who waited for it look again."""
        site = self._site(name)
        site.under_way -= 1
        waiting, site.waiting = site.waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    async def tell(
        self,
        name: str,
        happening: Happening,
        policy: CircuitPolicy,
    ) -> Circuit:
        """Something has happened to a site; its circuit after that. Written where it changes anything."""
        site = self._site(name)
        if happening.signal is Signal.SUCCESS:
            site.worked_at, site.failed_at = happening.now, None
        elif happening.signal is Signal.FAILURE:
            if not self._is_proven(site, policy):
                site.failed_at = happening.now
            site.worked_at = None
        async with site.telling:
            expected = after(site.circuit, happening, policy)
            if expected == site.circuit:
                return expected
            if not self._reach.is_alone_with(name):
                try:
                    site.circuit = await self._gates.change_circuit(
                        name, lambda stored: after(stored, happening, policy)
                    )
                    site.read_at = self._clock.now()
                    return site.circuit
                except ControlTrouble as error:
                    self._reach.let_down(f"telling the circuit of {name}", error, name)
            site.circuit, site.read_at = expected, self._clock.now()
            return expected

    def _site(self, name: str) -> Site:
        site = self._sites.get(name)
        if site is None:
            site = self._sites[name] = Site()
            if len(self._sites) > MAX_KNOWN:
                idle = next(
                    (other for other, known in self._sites.items() if known.is_idle and other != name), None
                )
                if idle is not None:
                    del self._sites[idle]
        self._sites.move_to_end(name)
        return site

    def _is_fresh(self, read_at: datetime | None) -> bool:
        # A clock that was set back says nothing about how long it was.
        return read_at is not None and abs(self._clock.now() - read_at) < FRESH_FOR


def _is_later(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and (other is None or one > other)
