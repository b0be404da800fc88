"""What goes wrong, call by call.

Every port call is a point where its process may die, pause, wait long, or hear of trouble, before the call
takes effect or after. A call is named by its job, its port and method, and how often that job made it; the
name decides. `happened` keeps what was drawn, in order; `Plan.only_faults` lets only some of it happen.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from empath.testing.simulation.draws import Draws
from empath.testing.simulation.loop import HOUR, MINUTE, SECOND
from empath.testing.simulation.plan import Plan

BEFORE_AND_AFTER = ("trouble", "crash", "pause")
"""Kinds that come in two: before the call took effect, and after."""

TROUBLED = (
    *("spool", "queue", "ledger", "control", "resolver"),
    *("gates", "quotas", "suppressions", "audit", "events"),
)
"""Ports that may say that they do not answer. A next hop's troubles are in its plan."""

LATENCY = 30_000
LONG_PAUSES = (30 * SECOND, 3 * MINUTE, 15 * MINUTE, 2 * HOUR)


@dataclass(frozen=True, slots=True)
class Fault:
    site: str
    kind: str
    """`trouble before`, `trouble after`, `crash before`, ..., `slow`, `partial`."""
    amount: float
    """In [0, 1): how long, or how much."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.site}"

    @property
    def pause(self) -> int:
        """For a pause: how long, in microseconds."""
        return int(LONG_PAUSES[int(self.amount * len(LONG_PAUSES))] * (0.5 + self.amount))

    @property
    def slowness(self) -> int:
        return int(self.amount**3 * 2 * MINUTE)


class Faults:
    """The faults of one run."""

    def __init__(self, plan: Plan, draws: Draws) -> None:
        self._draws = draws
        self._rates = plan.setup.rates
        self._until = plan.setup.faults_until
        self._outages = plan.setup.outages
        self._only = plan.only_faults
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._tables: dict[str, list[tuple[float, str]]] = {}
        self.happened: dict[str, Fault] = {}

    def at_call(self, label: str, call: str, now: int) -> tuple[int, Fault | None]:
        """The latency of a port call that `label` makes, and its fault, if it has one."""
        name = f"{label} {call}"
        self._counts[name] = count = self._counts[name] + 1
        site = f"{name} {count}"
        latency, roll, amount, _ = self._draws.four(site)
        return 200 + int(latency * LATENCY), self._drawn(site, call, roll, amount, now)

    def once(self, kind: str, name: str, now: int) -> Fault | None:
        """A fault outside of port calls: a duplicate, a missed tick, a batch given twice."""
        rate = self._rates[kind]
        if not rate or now >= self._until:
            return None
        self._counts[name] = count = self._counts[name] + 1
        site = f"{name} {count}"
        roll, amount, _, _ = self._draws.four(f"{kind} {site}")
        return self._allowed(Fault(f"{kind} {site}", kind, amount)) if roll < rate else None

    def _drawn(self, site: str, call: str, roll: float, amount: float, now: int) -> Fault | None:
        if now >= self._until:
            return None
        if self._outages:
            port = call.partition(".")[0]
            if any(port == out and start <= now < end for out, start, end in self._outages):
                return self._allowed(Fault(site, "trouble before", amount))
        table = self._tables.get(call)
        if table is None:
            table = self._tables[call] = self._table(call)
        if table and roll < table[-1][0]:
            kind = next(kind for threshold, kind in table if roll < threshold)
            return self._allowed(Fault(site, kind, amount))
        return None

    def _allowed(self, fault: Fault) -> Fault | None:
        if self._only is not None and fault.site not in self._only:
            return None
        self.happened[fault.site] = fault
        return fault

    def _table(self, call: str) -> list[tuple[float, str]]:
        """Thresholds that a roll is held against, in order."""
        port = call.split(".")[0]
        shares: list[tuple[str, float]] = [("slow", self._rates["slow"])]
        for kind in BEFORE_AND_AFTER:
            if kind == "trouble" and port not in TROUBLED:
                continue
            shares += [(f"{kind} before", self._rates[kind] / 2), (f"{kind} after", self._rates[kind] / 2)]
        if call in ("queue.send", "ledger.create", "events.publish"):
            shares.append(("partial", self._rates["partial"]))
        table, total = [], 0.0
        for kind, share in shares:
            if share:
                total += share
                table.append((total, kind))
        return table
