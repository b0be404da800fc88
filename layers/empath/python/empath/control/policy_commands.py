"""`empathctl policy`: what applies to destinations and tenants, changed without a deployment."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from empath.control import policies
from empath.control.errors import FAILED, BadUsage
from empath.control.options import SETTINGS, AsJson, StateDir, new_console, print_json
from empath.control.policies import Change, Field
from empath.control.render import plain
from empath.control.target import DEFAULT_STATE_DIR, Target, find_target
from empath.domain.policy import flat
from empath.pipeline.operator_log import Entry
from empath.ports.policies import Policies

T = TypeVar("T")

policy = typer.Typer(help="What applies to a destination or a tenant.", **SETTINGS)

SOON = "in force within 30 seconds"

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A destination domain, '*' for all; tenant:NAME, or 'tenant:*'."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Judge it and say what would be; write nothing.")]


@policy.command("list")
def list_(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Every policy there is, and what it sets. Reads the whole control table."""
    items = _with(find_target(state_dir), lambda store: store.all())
    if as_json:
        print_json(
            {
                "policies": [
                    {
                        "name": item.name,
                        "settings": item.settings,
                        "changed_at": item.changed_at,
                        "fault": item.fault,
                    }
                    for item in items
                ]
            }
        )
        return
    console = new_console()
    if not items:
        console.print("There is no policy: the defaults hold for everybody (`empathctl policy show '*'`).")
        return
    table = Table("policy", "sets", "changed", box=None)
    for item in items:
        words = f"cannot be read: {item.fault}" if item.settings is None else _summary(item.settings)
        table.add_row(plain(item.name), plain(words), plain(item.changed_at or ""))
    console.print(table)


@policy.command()
def show(name: Name, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Every setting in force for a destination or tenant, and which policy says so."""
    wanted = policies.read_policy_name(name)
    fields = _with(find_target(state_dir), lambda store: policies.in_force(store, wanted))
    if as_json:
        told = [{"field": field.name, "value": field.value, "from": field.origin} for field in fields]
        print_json({"name": wanted, "fields": told})
        return
    _show_fields(wanted, fields)


@policy.command("set")
def set_(
    name: Name,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FIELD=VALUE]...", help="Such as retry.expiry=86400; a value is JSON or text."
        ),
    ] = None,
    file: Annotated[str | None, typer.Option(help="A JSON object of settings; - for standard input.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of what the policy sets, not added to it.")
    ] = False,
    dry_run: DryRun = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Set fields of a policy. Exits with 2, and changes nothing, when a field or a value is wrong."""
    if bool(settings) is (file is not None):
        raise BadUsage("either settings (FIELD=VALUE) or --file is needed")
    wanted = policies.read_policy_name(name)
    given = policies.read_settings(settings or []) if file is None else _from_file(file)

    def work(store: Policies) -> Awaitable[Change]:
        return policies.change(store, wanted, given, replace=replace, dry_run=dry_run)

    _tell(_changed(find_target(state_dir), "policy set", wanted, work, dry_run), dry_run, as_json)


@policy.command()
def unset(
    name: Name,
    fields: Annotated[
        list[str] | None, typer.Argument(metavar="[FIELD]...", help="Such as retry.expiry, or retry.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole policy.")] = False,
    dry_run: DryRun = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Take fields of a policy back, so that what is below it holds again."""
    if bool(fields) is everything:
        raise BadUsage("either fields or --all is needed")
    wanted = policies.read_policy_name(name)

    def work(store: Policies) -> Awaitable[Change]:
        return policies.take_back(store, wanted, fields or [], dry_run=dry_run)

    _tell(_changed(find_target(state_dir), "policy unset", wanted, work, dry_run), dry_run, as_json)


@policy.command()
def check(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Judge every policy there is. Exits with 1 when one is wrong, which workers ignore."""
    faults = _with(find_target(state_dir), policies.faults)
    if as_json:
        print_json({"faults": [{"name": name, "fault": fault} for name, fault in faults.items()]})
    else:
        console = new_console()
        for name, fault in faults.items():
            console.print(escape(f"{name}: {fault}"))
        console.print(f"{len(faults)} policies are wrong" if faults else "every policy is good")
    if faults:
        raise typer.Exit(FAILED)


def _tell(change: Change, dry_run: bool, as_json: bool) -> None:
    if as_json:
        words = {"name": change.name, "settings": change.after, "before": change.before}
        print_json({"policy": words, "written": not dry_run})
        return
    then = "nothing was written" if dry_run else SOON
    has = "is removed" if change.after is None else f"sets {_summary(change.after)}"
    new_console().print(escape(f"{change.name} {has}; {then}"))


def _show_fields(name: str, fields: list[Field]) -> None:
    table = Table("setting", "value", "from", box=None)
    for field in fields:
        value = field.value if isinstance(field.value, str) else json.dumps(field.value)
        table.add_row(plain(field.name), plain(value), plain(field.origin, _style(field.origin, name)))
    new_console().print(table)


def _style(origin: str, name: str) -> str:
    return "green" if origin == name else "dim" if origin == "default" else ""


def _summary(settings: Mapping[str, Any]) -> str:
    """In the form that `set` takes."""
    words = [
        f"{field}={value if isinstance(value, str) else json.dumps(value)}" for field, value in flat(settings)
    ]
    return " ".join(words) or "nothing"


def _from_file(file: str) -> dict[str, Any]:
    where = "standard input" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadUsage(f"{where} cannot be read: {error}") from None
    return policies.read_document(text, where)


def _changed(
    target: Target,
    action: str,
    name: str,
    work: Callable[[Policies], Awaitable[Change]],
    dry_run: bool,
) -> Change:
    async def run() -> Change:
        async with target.policies() as store:
            if dry_run:
                return await work(store)
            async with target.operator_log() as log, log.entry(action, f"policy#{name}") as entry:
                return noted(entry, await work(store))

    return asyncio.run(run())


def noted(entry: Entry, change: Change) -> Change:
    entry.before = None if change.before is None else json.dumps(change.before)
    entry.after = None if change.after is None else json.dumps(change.after)
    return change


def _with(target: Target, work: Callable[[Policies], Awaitable[T]]) -> T:
    async def run() -> T:
        async with target.policies() as store:
            return await work(store)

    return asyncio.run(run())
