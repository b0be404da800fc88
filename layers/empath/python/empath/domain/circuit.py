"""The circuit breaker of a site, as a table: phases, events, and what each does.

    phase     failure                  success  ask    abandon                  reset
    CLOSED    counts; OPEN when        forgets  -      -                        forgets
              there are enough
    OPEN      -                        CLOSED   -      -                        CLOSED
    DUE       OPEN                     CLOSED   probe  -                        CLOSED
    PROBING   OPEN                     CLOSED   -      DUE (the probe's owner)  CLOSED

Rules, read off it:
1. Only failures count, and a success forgets them: a site that works for some mail is not let alone.
2. While it is open nobody asks the site; what was on its way when it opened changes nothing by failing.
3. One probe at a time: whoever asks first in phase DUE has it, under a lease that ends by itself.
4. One success closes it, wherever it comes from; a probe that fails opens it for another period.
5. A failure counts for everybody who waited for it, as if each had made it; but no single one opens a circuit
   that takes several, however many waited.
6. Failures belong together when the later attempt began within the window after the earlier one ended: hosts
   that are silent for minutes are as dead as those that refuse at once.

Phases are not stored: they follow from what is, and from the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from empath.domain.gate_policy import CircuitPolicy

MAX_CAUSE = 200

PROBE_TAKES = timedelta(seconds=60)
"""When it is worth looking how a probe ended. Its lease is as long as an attempt can be, which few are."""


class Phase(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    DUE = "due"
    PROBING = "probing"


class Signal(StrEnum):
    FAILURE = "failure"
    SUCCESS = "success"
    ASK = "ask"
    ABANDON = "abandon"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Probe:
    """Who probes; `until` at the latest."""

    owner: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Circuit:
    failures: tuple[datetime, ...] = ()
    """Those that count, oldest first; the newest of them, at most as many as open it."""
    open_until: datetime | None = None
    opened_at: datetime | None = None
    """When it was opened first since it was last closed."""
    openings: int = 0
    """How often since then."""
    probe: Probe | None = None
    cause: str = ""
    """The last words of the failures that opened it: a next hop's, so not to be trusted."""

    @property
    def is_closed(self) -> bool:
        return self.open_until is None

    def phase(self, now: datetime) -> Phase:
        if self.open_until is None:
            return Phase.CLOSED
        if self.probe is not None and now < self.probe.until:
            return Phase.PROBING
        return Phase.OPEN if now < self.open_until else Phase.DUE

    def blocked_until(self, now: datetime) -> datetime | None:
        """When it is worth asking again; None when mail may go, as a probe at least."""
        if self.open_until is None:
            return None
        if self.probe is not None and now < self.probe.until:
            return min(self.probe.until, now + PROBE_TAKES)
        return self.open_until if now < self.open_until else None

    def recent_failures(self, now: datetime, policy: CircuitPolicy) -> int:
        return len(_within(self.failures, now, policy))


CLOSED = Circuit()


@dataclass(frozen=True, slots=True)
class Happening:
    """A signal with what belongs to it: `owner` and `until` of a probe; of a failure its `cause`, when the
    attempt `began`, and for how many deliveries it `counts`."""

    signal: Signal
    now: datetime
    owner: str = ""
    until: datetime | None = None
    cause: str = ""
    began: datetime | None = None
    counts: int = 1


Action = Callable[[Circuit, Happening, CircuitPolicy], Circuit]


def _stay(circuit: Circuit, happening: Happening, policy: CircuitPolicy) -> Circuit:
    return circuit


def _close(circuit: Circuit, happening: Happening, policy: CircuitPolicy) -> Circuit:
    return CLOSED


def _count(circuit: Circuit, happening: Happening, policy: CircuitPolicy) -> Circuit:
    earlier = _within(circuit.failures, happening.began or happening.now, policy)
    counts = max(1, min(happening.counts, policy.failures - 1))
    failures = (*earlier, *(happening.now,) * counts)[-policy.failures :]
    counted = replace(circuit, failures=failures, cause=happening.cause[:MAX_CAUSE])
    return counted if len(failures) < policy.failures else _open(counted, happening, policy)


def _open(circuit: Circuit, happening: Happening, policy: CircuitPolicy) -> Circuit:
    return Circuit(
        open_until=happening.now + timedelta(seconds=policy.open_for),
        opened_at=circuit.opened_at or happening.now,
        openings=circuit.openings + 1,
        cause=happening.cause[:MAX_CAUSE],
    )


def _probe(circuit: Circuit, happening: Happening, policy: CircuitPolicy) -> Circuit:
    if happening.until is None:
        raise ValueError("a probe needs to know when it ends")
    return replace(circuit, probe=Probe(happening.owner, happening.until))


def _abandon(circuit: Circuit, happening: Happening, policy: CircuitPolicy) -> Circuit:
    ours = circuit.probe is not None and circuit.probe.owner == happening.owner
    return replace(circuit, probe=None) if ours else circuit


ACTIONS: Mapping[tuple[Phase, Signal], Action] = MappingProxyType(
    {
        (Phase.CLOSED, Signal.FAILURE): _count,
        (Phase.CLOSED, Signal.SUCCESS): _close,
        (Phase.CLOSED, Signal.ASK): _stay,
        (Phase.CLOSED, Signal.ABANDON): _stay,
        (Phase.CLOSED, Signal.RESET): _close,
        (Phase.OPEN, Signal.FAILURE): _stay,
        (Phase.OPEN, Signal.SUCCESS): _close,
        (Phase.OPEN, Signal.ASK): _stay,
        (Phase.OPEN, Signal.ABANDON): _stay,
        (Phase.OPEN, Signal.RESET): _close,
        (Phase.DUE, Signal.FAILURE): _open,
        (Phase.DUE, Signal.SUCCESS): _close,
        (Phase.DUE, Signal.ASK): _probe,
        (Phase.DUE, Signal.ABANDON): _stay,
        (Phase.DUE, Signal.RESET): _close,
        (Phase.PROBING, Signal.FAILURE): _open,
        (Phase.PROBING, Signal.SUCCESS): _close,
        (Phase.PROBING, Signal.ASK): _stay,
        (Phase.PROBING, Signal.ABANDON): _abandon,
        (Phase.PROBING, Signal.RESET): _close,
    }
)


def after(circuit: Circuit, happening: Happening, policy: CircuitPolicy) -> Circuit:
    """The circuit once something has happened to its site."""
    return ACTIONS[circuit.phase(happening.now), happening.signal](circuit, happening, policy)


def _within(failures: tuple[datetime, ...], now: datetime, policy: CircuitPolicy) -> tuple[datetime, ...]:
    return tuple(at for at in failures if now - at < timedelta(seconds=policy.window))
