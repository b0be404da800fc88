"""`empathctl circuit`: the sites that fail and are let alone, and taking that back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from empath.control import circuits
from empath.control.changing import change
from empath.control.options import SETTINGS, AsJson, StateDir, new_console, print_json
from empath.control.target import DEFAULT_STATE_DIR, Target, find_target
from empath.domain.circuit import Circuit
from empath.pipeline.operator_log import Entry
from empath.ports.gates import Gates

T = TypeVar("T")

circuit = typer.Typer(help="The sites that fail too often and are let alone.", **SETTINGS)

Site = Annotated[str, typer.Argument(metavar="SITE", help="As `circuit list` names it.")]


@circuit.command("list")
def list_(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Every site whose circuit is open, until when, and why."""
    found = _with_gates(find_target(state_dir), lambda gates: gates.circuits())
    now = datetime.now(UTC)
    if as_json:
        print_json({"circuits": [circuits.circuit_document(site, each, now) for site, each in found.items()]})
    else:
        circuits.show_circuits(new_console(), found, now)


@circuit.command()
def reset(site: Site, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Close a site's circuit: the next mail for it goes at once. Exits with 1 when it was not open."""
    now, name = datetime.now(UTC), site.strip().lower()

    async def close(gates: Gates, line: Entry) -> Circuit:
        before = await circuits.reset(gates, name, now)
        line.before, line.after = f"{before.phase(now)}: {before.cause}", "closed"
        return before

    target = find_target(state_dir)
    before = change(target, "circuit reset", name, target.gates, close)
    if as_json:
        print_json({"circuit": circuits.circuit_document(site, before, now)})
    else:
        new_console().print(
            f"the circuit of {site} is closed; every worker knows within 10 seconds, and what was put off "
            "comes back at its time",
            markup=False,
        )


def _with_gates(target: Target, work: Callable[[Gates], Awaitable[T]]) -> T:
    async def run() -> T:
        async with target.gates() as gates:
            return await work(gates)

    return asyncio.run(run())
