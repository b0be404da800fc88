"""`empathctl circuit`: the sites that fail and are let alone, and taking that back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from empath.control import circuits
from empath.control.changing import change
from empath.control.errors import ControlError
from empath.control.options import SETTINGS, AsJson, StateDir, new_console, print_json
from empath.control.queue_operating import is_success, outcome_document, show_outcomes_in_bulk
from empath.control.target import DEFAULT_STATE_DIR, Target, find_target
from empath.domain.circuit import Circuit
from empath.domain.errors import Trouble
from empath.pipeline.operating import Operated
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
def reset(
    site: Site,
    retry: Annotated[bool, typer.Option("--retry", help="Also try now what waits in the ledger.")] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Close a site's circuit, and forget who stands in line for its rate: new mail goes at once.

    Says how many deliveries wait for the site, and until when. Exits with 1 when there was nothing to reset,
    and --retry was not asked for.
    """
    now, name = datetime.now(UTC), site.strip().lower()

    async def close(gates: Gates, line: Entry) -> tuple[Circuit, bool]:
        before, had_lines = await circuits.reset(gates, name, now, or_not=retry)
        line.before, line.after = f"{before.phase(now)}: {before.cause}", "closed"
        return before, had_lines

    target = find_target(state_dir)
    before, had_lines = change(target, "circuit reset", name, target.gates, close)
    try:
        waiting, retried = asyncio.run(_waiting(target, name, now, retry=retry))
    except Trouble as trouble:
        raise ControlError(
            f"the circuit of {name} is closed, but what waits for it was not to be had: {trouble}",
            f"`empathctl circuit reset {name} --retry` tries what waits",
        ) from trouble
    if as_json:
        document = {
            "circuit": circuits.circuit_document(site, before, now),
            "had_lines": had_lines,
            "waiting": circuits.waiting_document(waiting),
        }
        if retry:
            document["retry"] = outcome_document("retry", retried, has_more=waiting.has_more)
        print_json(document)
    else:
        console = new_console()
        if not before.is_closed:
            console.print(
                f"the circuit of {name} is closed; every worker knows within 5 seconds", markup=False
            )
        if had_lines:
            console.print(f"nobody new stands behind those who wait for a slot of {name}", markup=False)
        if retry:
            show_outcomes_in_bulk(console, "retry", retried, now, has_more=waiting.has_more)
        else:
            console.print(circuits.told_waiting(waiting, name, now), markup=False)
    if not is_success(retried, in_bulk=True):
        raise typer.Exit(1)


async def _waiting(
    target: Target, site: str, now: datetime, *, retry: bool
) -> tuple[circuits.Waiting, Sequence[Operated]]:
    if not retry:
        async with target.ledger() as ledger:
            return await circuits.waiting_for(ledger, site, now), ()
    async with target.operations() as operations:
        waiting = await circuits.waiting_for(operations.ledger, site, now)
        return waiting, await operations.operate_all("retry", [row.key for row in waiting.rows])


def _with_gates(target: Target, work: Callable[[Gates], Awaitable[T]]) -> T:
    async def run() -> T:
        async with target.gates() as gates:
            return await work(gates)

    return asyncio.run(run())
