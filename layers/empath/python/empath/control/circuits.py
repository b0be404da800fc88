"""Circuits as an operator sees and closes them: plain functions, documents and words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from rich.console import Console
from rich.table import Table

from empath.control.documents import Document
from empath.control.errors import ControlError
from empath.control.render import moment, plain
from empath.domain.circuit import Circuit, Happening, Phase, Signal, after
from empath.domain.gate_policy import CircuitPolicy
from empath.domain.instant import format_instant
from empath.ports.gates import Gates

_WORDS = {
    Phase.CLOSED: "closed",
    Phase.OPEN: "open",
    Phase.DUE: "waits for somebody to probe",
    Phase.PROBING: "is probed",
}


async def reset(gates: Gates, site: str, now: datetime) -> Circuit:
    """Close a circuit; what it was before. Raises ControlError when it was not open."""
    before = await gates.circuit(site)
    if before.is_closed:
        raise ControlError(f"no circuit of {site} is open", "see `empathctl circuit list`")
    happening = Happening(Signal.RESET, now)
    await gates.change_circuit(site, lambda circuit: after(circuit, happening, CircuitPolicy()))
    return before


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
