"""`empathctl suppress`: addresses that mail is not tried for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import typer
from rich.markup import escape

from empath.control.changing import change
from empath.control.errors import FAILED
from empath.control.options import SETTINGS, AsJson, StateDir, new_console, print_json
from empath.control.sending import read_address
from empath.control.target import DEFAULT_STATE_DIR, find_target
from empath.domain.suppression import MAX_NOTE, Suppression, listed_as
from empath.pipeline.operator_log import Entry
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
        console.print(escape(f"{entry.address}  {_term(entry)}  {entry.origin}  {entry.note}"))
    console.print(f"{len(entries)} address{'' if len(entries) == 1 else 'es'}")


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

    async def put(suppressions: Suppressions, line: Entry) -> bool:
        is_new = await suppressions.add(entry)
        line.after = _term(entry) if is_new else "on the list already, for as long"
        return is_new

    target = find_target(state_dir)
    added = change(target, "suppress add", listed, target.suppressions, put, field="recipient")
    new_console().print(escape(f"{listed} is on the list" + ("" if added else " already")))


@suppress.command()
def remove(address: Address, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """Try mail to an address again. Exits with 1 when it was not on the list."""
    listed = listed_as(address)

    async def take(suppressions: Suppressions, line: Entry) -> bool:
        was_there = await suppressions.remove(address)
        line.before, line.after = "on the list" if was_there else "not on the list", "not on the list"
        return was_there

    target = find_target(state_dir)
    removed = change(target, "suppress remove", listed, target.suppressions, take, field="recipient")
    said = "is off the list" if removed else "was not on the list"
    new_console().print(escape(f"{listed} {said}"))
    if not removed:
        raise typer.Exit(FAILED)


def _term(entry: Suppression) -> str:
    return f"until {entry.until:%Y-%m-%d %H:%M}" if entry.until else "until removed"


def _with(work: Callable[[Suppressions], Awaitable[T]], state_dir: StateDir) -> T:
    target = find_target(state_dir)

    async def run() -> T:
        async with target.suppressions() as suppressions:
            return await work(suppressions)

    return asyncio.run(run())
