"""What the deliver stage asks before an attempt: may it go to this site now, and if not, when?

    circuit    let alone while it is open; then one probe at a time
    trials     a site that nothing was heard of lately is tried carefully (pipeline.circuits)
    rate       a slot, which is waited for; or a place in line (domain.line), and the job comes back for one
    connection the right to one, where their number is limited

Calls per message, by what its domain's policy sets:
    nothing        0 of its own; the process reads one item each FRESH_FOR (5 s), whatever it sends
    rate           1 update for all that ask at the same time: 0.1 to 1; a second one when they come back
    connections    2 per connection, none for a message that takes one over from another
    a failure      2 (read, write); 1 more for each of the first opening and the closing of a circuit
Nothing here is an attempt, and nothing is polled: what is held back is told when to ask again.

The store of the gates may be away: limits hold in each worker alone then, logged and counted as
`gates_unreachable`. Mail must not stop because a counter cannot be read, nor a limit be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from empath.domain.circuit import Happening, Signal
from empath.domain.envelope import Priority
from empath.domain.gate import FREED_IN, Heard, HeldBack, signal_of
from empath.domain.line import AHEAD
from empath.domain.outcome import RecipientOutcome
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.slots import is_good, to_micros
from empath.pipeline.circuits import Circuits
from empath.pipeline.connection_slots import CloseIdle, ConnectionSlot, ConnectionSlots
from empath.pipeline.gates_reach import Reach
from empath.pipeline.reservations import Reservations
from empath.ports import Clock, IdSource, Metrics
from empath.ports.gates import Gates


@dataclass(slots=True)
class Pass:
    """The leave for one attempt at a site; `close` it whatever becomes of the attempt."""

    site: str
    policy: DomainPolicy
    owner: str
    began: datetime
    is_probe: bool = False
    connection: ConnectionSlot | None = None
    heard: Heard | None = field(default=None, init=False)

    def hear(self, outcomes: Iterable[RecipientOutcome]) -> None:
        """What the attempt brought; without any, it said nothing about the site."""
        self.heard = signal_of(outcomes)


class Gatekeeper:
    """The gates as one process knows them; it lives as long as the process."""

    def __init__(
        self,
        gates: Gates,
        clock: Clock,
        ids: IdSource,
        metrics: Metrics,
        close_idle: CloseIdle | None = None,
    ) -> None:
        """`close_idle` is told a site before the right to a connection there is given back."""
        reach = Reach(clock, metrics)
        self._clock, self._metrics = clock, metrics
        self._circuits = Circuits(gates, clock, reach)
        self._reservations = Reservations(gates, clock, ids, reach)
        self._connections = ConnectionSlots(gates, clock, reach, close_idle)

    async def refresh(self) -> None:
        """Learn what the others know, if that is due; beside other calls it costs no time."""
        await self._circuits.refresh()

    async def admit(
        self,
        site: str,
        policy: DomainPolicy,
        *,
        slot: datetime | None,
        priority: Priority,
        owner: str,
        until: datetime,
        time_left: Callable[[], float],
    ) -> Pass | HeldBack:
        """Leave for an attempt that ends by `until`, or when to ask again.

        `slot` is the place that the job was given earlier. Waits, for `time_left` seconds at most, only for
        a slot that is near and for other deliveries of this process.
        """
        while True:
            held = await self._let_alone(site, policy)
            if held is not None:
                return held
            if not await self._circuits.enter(site, policy.circuit):
                continue
            try:
                # Whoever is to wait for a trial's end asks for no slot meanwhile.
                turn = await self._turn(site, policy, priority, slot, time_left)
            except BaseException:
                self._circuits.leave(site)
                raise
            if isinstance(turn, HeldBack):
                self._circuits.leave(site)
                return turn
            entered = await self._with_connection(Pass(site, policy, owner, self._clock.now()), until)
            if isinstance(entered, Pass) and self._is_late(turn, policy):
                await self.close(entered)
                slot = turn
                continue
            return entered

    async def close(self, entered: Pass) -> None:
        """End an attempt; what it said about the site is told to all. Never raises."""
        try:
            if entered.connection is not None:
                await self._connections.release(entered.connection)
            if entered.policy.circuit.enabled:
                await self._tell(entered)
        finally:
            # Last, so that those who waited see what is known now.
            self._circuits.leave(entered.site)

    async def _tell(self, entered: Pass) -> None:
        site, heard, now = entered.site, entered.heard, self._clock.now()
        if heard is not None:
            # Those who waited for this attempt would have met the same.
            counts = 1 + self._circuits.waiting(site) if heard.is_unreachable else 1
            happening = Happening(heard.signal, now, cause=heard.cause, began=entered.began, counts=counts)
        elif entered.is_probe:
            happening = Happening(Signal.ABANDON, now, owner=entered.owner)
        else:
            return
        await self._circuits.tell(site, happening, entered.policy.circuit)

    async def lets_alone(self, site: str, policy: DomainPolicy) -> HeldBack | None:
        """Until when a circuit keeps mail from the site, for who has something to do before `admit`."""
        return await self._let_alone(site, policy)

    async def _let_alone(self, site: str, policy: DomainPolicy) -> HeldBack | None:
        if not policy.circuit.enabled:
            return None
        circuit = await self._circuits.circuit(site)
        blocked = circuit.blocked_until(self._clock.now())
        return (
            None
            if blocked is None
            else self._held(HeldBack(Reason.CIRCUIT_OPEN, blocked, circuit.cause, site))
        )

    async def _turn(
        self,
        site: str,
        policy: DomainPolicy,
        priority: Priority,
        place: datetime | None,
        time_left: Callable[[], float],
    ) -> datetime | HeldBack | None:
        """The slot, once it is there; None where there is no limit."""
        if policy.rate is None:
            return None
        if place is not None and to_micros(place) > to_micros(self._clock.now()) + AHEAD[priority]:
            return self._held(HeldBack(Reason.SLOT_RESERVED, place, site=site))
        turn = await self._reservations.turn(site, policy.rate, priority, place=place)
        wait = (turn.at - self._clock.now()).total_seconds()
        if not turn.is_slot or wait > time_left():
            return self._held(HeldBack(Reason.SLOT_RESERVED, turn.at, site=site))
        await self._clock.sleep(wait)
        return turn.at

    def _is_late(self, slot: datetime | None, policy: DomainPolicy) -> bool:
        """Whether what was waited for after the slot took so long that another one is needed."""
        if policy.rate is None or slot is None:
            return False
        return not is_good(slot, self._clock.now(), policy.rate.whole_pace)

    async def _with_connection(self, entered: Pass, until: datetime) -> Pass | HeldBack:
        """`entered` with what else it needs, or closed again."""
        try:
            return await self._with_the_rest(entered, until)
        except BaseException:
            self._circuits.leave(entered.site)
            raise

    async def _with_the_rest(self, entered: Pass, until: datetime) -> Pass | HeldBack:
        site, policy, now = entered.site, entered.policy, self._clock.now()
        if policy.circuit.enabled and not (await self._circuits.circuit(site)).is_closed:
            asking = Happening(Signal.ASK, now, owner=entered.owner, until=until)
            circuit = await self._circuits.tell(site, asking, policy.circuit)
            entered.is_probe = circuit.probe is not None and circuit.probe.owner == entered.owner
            blocked = circuit.blocked_until(now)
            if blocked is not None and not entered.is_probe:
                await self.close(entered)
                return self._held(HeldBack(Reason.CIRCUIT_OPEN, blocked, circuit.cause, site))
        if policy.max_connections is not None:
            entered.connection = await self._connections.take(
                site, limit=policy.max_connections, owner=entered.owner, until=until
            )
            if entered.connection is None:
                await self.close(entered)
                return self._held(HeldBack(Reason.CONNECTIONS_IN_USE, now + FREED_IN, site=site))
        return entered

    def _held(self, held: HeldBack) -> HeldBack:
        self._metrics.count(f"held_{held.reason}")
        return held
