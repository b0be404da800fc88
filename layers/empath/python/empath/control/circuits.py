"""Circuits as an operator sees and closes them: plain functions, documents and words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.table import Table

from empath.control.documents import Document
from empath.control.errors import ControlError
from empath.control.queue_reading import list_deliveries
from empath.control.render import moment, plain
from empath.domain.circuit import Circuit, Happening, Phase, Signal, after
from empath.domain.delivery_state import State
from empath.domain.gate_policy import CircuitPolicy
from empath.domain.instant import format_instant
from empath.domain.reason import Reason
from empath.pipeline.batch import all_of
from empath.pipeline.operating import AT_ONCE
from empath.ports import Ledger, Listed
from empath.ports.gates import Gates

_WORDS = {
    Phase.CLOSED: "closed",
    Phase.OPEN: "open",
    Phase.DUE: "waits for somebody to probe",
    Phase.PROBING: "is probed",
}


MOST = 10_000
"""Deliveries that are looked at for whether they wait for a site."""

_HELD_BACK = frozenset({Reason.CIRCUIT_OPEN, Reason.SLOT_RESERVED, Reason.CONNECTIONS_IN_USE})


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the gates of a site hold back for longer than queues can."""

    rows: Sequence[Listed]
    has_more: bool
    """There may be others: more than MOST wait at all gates together."""

    @property
    def until(self) -> datetime | None:
        return max((row.next_attempt_at or row.at for row in self.rows), default=None)


async def reset(gates: Gates, site: str, now: datetime, *, or_not: bool = False) -> tuple[Circuit, bool]:
    """Close a circuit and forget the lines of its site; what it was before, and whether there were lines.

    Raises ControlError when there was neither, unless that is all right, too (`or_not`).
    """
    before = await gates.circuit(site)
    had_lines = await gates.forget_lines(site)
    if before.is_closed and not had_lines and not or_not:
        raise ControlError(
            f"no circuit of {site} is open, and no mail stands in line for it", "see `empathctl circuit list`"
        )
    if not before.is_closed:
        happening = Happening(Signal.RESET, now)
        await gates.change_circuit(site, lambda circuit: after(circuit, happening, CircuitPolicy()))
    return before, had_lines


async def waiting_for(ledger: Ledger, site: str, now: datetime) -> Waiting:
    """The deliveries in the ledger that gates of a site hold back, and that are not due yet."""

    def is_held_back(row: Listed) -> bool:
        return row.reason in _HELD_BACK and (row.next_attempt_at or row.at) > now

    rows, has_more = await list_deliveries(ledger, [State.DEFERRED], MOST, is_held_back)
    turns = asyncio.Semaphore(AT_ONCE)

    async def is_for_site(row: Listed) -> bool:
        async with turns:
            record = await ledger.delivery(row.key)
        return record is not None and record.site == site

    found = await all_of(map(is_for_site, rows))
    return Waiting([row for row, mine in zip(rows, found, strict=True) if mine], has_more)


def waiting_document(waiting: Waiting) -> Document:
    return {
        "deliveries": len(waiting.rows),
        "until": _instant(waiting.until),
        "has_more": waiting.has_more,
    }


def told_waiting(waiting: Waiting, site: str, now: datetime) -> str:
    """How much waits for a site, until when, and what to do about it."""
    later = "what waits on a queue comes back within 15 minutes"
    if waiting.until is None:
        return later
    which = "one delivery waits" if len(waiting.rows) == 1 else f"{len(waiting.rows)} deliveries wait"
    more = ", at least," if waiting.has_more else ""
    return (
        f"{which}{more} in the ledger, the last until {moment(waiting.until, now)}: `empathctl circuit reset "
        f"{site} --retry` tries them now; {later}"
    )


def circuit_document(site: str, circuit: Circuit, now: datetime) -> Document:
    return {
        "site": site,
        "phase": circuit.phase(now).value,
        "open_until": _instant(circuit.open_until),
        "opened_at": _instant(circuit.opened_at),
        "openings": circuit.openings,
        "probe_until": _instant(circuit.probe.until) if circuit.probe else None,
        "cause": circuit.cause,
    }


def show_circuits(console: Console, circuits: Mapping[str, Circuit], now: datetime) -> None:
    if not circuits:
        console.print("No circuit is open: mail goes to every site.")
        return
    table = Table("site", "circuit", "until", "since", "times opened", "because", box=None)
    for site, circuit in circuits.items():
        table.add_row(
            plain(site),
            _WORDS[circuit.phase(now)],
            moment(until, now) if (until := circuit.blocked_until(now)) else "",
            moment(circuit.opened_at, now) if circuit.opened_at else "",
            str(circuit.openings),
            plain(circuit.cause),
        )
    console.print(table)


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)
