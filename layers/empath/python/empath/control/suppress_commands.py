"""`empathctl suppress`: addresses that mail is not tried for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import typer
from rich.markup import escape

from empath.control.errors import FAILED
from empath.control.options import SETTINGS, AsJson, StateDir, new_console, print_json
from empath.control.sending import read_address
from empath.control.target import DEFAULT_STATE_DIR, find_target
from empath.domain.suppression import MAX_NOTE, Suppression, listed_as
from empath.ports import Suppressions

T = TypeVar("T")

suppress = typer.Typer(help="Addresses that mail is not tried for.", **SETTINGS)

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="In any case.")]


@suppress.command("list")
def list_(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Every address in force, by name."""
    now = datetime.now(UTC)

    async def read(suppressions: Suppressions) -> list[Suppression]:
        return [entry async for entry in suppressions.all() if entry.is_in_force(now)]

    entries = sorted(_with(read, state_dir), key=lambda entry: entry.address)
    if as_json:
        print_json({"suppressions": [entry.model_dump(mode="json") for entry in entries]})
        return
    console = new_console()
    for entry in entries:
        until = f"until {entry.until:%Y-%m-%d %H:%M}" if entry.until else "until removed"
        console.print(escape(f"{entry.address}  {until}  {entry.origin}  {entry.note}"))
    console.print(f"{len(entries)} addresses")


@suppress.command()
def add(
    address: Address,
    days: Annotated[int | None, typer.Option(min=1, help="For so long; else until it is removed.")] = None,
    note: Annotated[str, typer.Option(help="Why; senders read it.")] = "",
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Fail mail to an address at once. An entry that lasts as long already stays as it is."""
    listed, now = listed_as(str(read_address("ADDRESS", address))), datetime.now(UTC)
    entry = Suppression(
        address=listed,
        since=now,
        until=now + timedelta(days=days) if days is not None else None,
        origin="operator",
        note=note[:MAX_NOTE],
    )
    added = _with(lambda suppressions: suppressions.add(entry), state_dir)
    new_console().print(escape(f"{listed} is on the list" + ("" if added else " already")))


@suppress.command()
def remove(address: Address, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """Try mail to an address again. Exits with 1 when it was not on the list."""
    removed = _with(lambda suppressions: suppressions.remove(address), state_dir)
    said = "is off the list" if removed else "was not on the list"
    new_console().print(escape(f"{listed_as(address)} {said}"))
    if not removed:
        raise typer.Exit(FAILED)


def _with(work: Callable[[Suppressions], Awaitable[T]], state_dir: StateDir) -> T:
    target = find_target(state_dir)

    async def run() -> T:
        async with target.suppressions() as suppressions:
            return await work(suppressions)

    return asyncio.run(run())
