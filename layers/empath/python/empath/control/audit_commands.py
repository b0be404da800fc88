"""`empathctl audit`: what the trail says of a message, and whether it is what was written."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from typing import Annotated

import typer
from rich.markup import escape

from empath.control.audit_render import show_lines
from empath.control.documents import Document
from empath.control.errors import FAILED, BadUsage
from empath.control.options import SETTINGS, AsJson, StateDir, new_console, print_json
from empath.control.queue_reading import read_message_id
from empath.control.target import DEFAULT_STATE_DIR, find_target
from empath.domain.ulid import decode_ulid
from empath.pipeline.audit_check import Fault, Findings, check
from empath.pipeline.audit_reading import Told, lines_of_message

audit = typer.Typer(help="The audit trail.", **SETTINGS)

First = Annotated[str | None, typer.Option("--from", metavar="DAY", help="The first day, 2026-11-21 (UTC).")]
Last = Annotated[str | None, typer.Option("--to", metavar="DAY", help="The last day.")]


@audit.command()
def show(
    message_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A message; without it every line of the days.")
    ] = None,
    first: First = None,
    last: Last = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """The lines about a message, from the day when it was received on. Exits with 1 when there are none, or
    something could not be read."""
    wanted = read_message_id(message_id) if message_id is not None else None
    since, until = _days(first, last)
    if since is None and wanted is None:
        raise BadUsage("give a message id, or the first day with --from")
    if since is None and wanted is not None:
        since = _received_on(wanted)
    target = find_target(state_dir)

    async def read() -> Told:
        async with target.audit() as trail:
            return await lines_of_message(trail, wanted, first=since, last=until)

    told = asyncio.run(read())
    if as_json:
        print_json({"lines": told.lines, "unreadable": told.unreadable})
    else:
        show_lines(new_console(), told)
        if not told.lines:
            new_console().print(f"no lines from {since} on: the journal writes them some seconds later")
    if told.unreadable or not told.lines:
        raise typer.Exit(FAILED)


@audit.command()
def verify(
    first: First = None,
    last: Last = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Check every link, object and line of the trail. Exits with 1 at the first fault of any chain."""
    since, until = _days(first, last)
    target = find_target(state_dir)

    async def read() -> Findings:
        async with target.audit() as trail:
            return await check(trail, first=since, last=until)

    findings = asyncio.run(read())
    if as_json:
        print_json(findings_document(findings))
    else:
        console = new_console()
        for fault in findings.faults:
            console.print(f"[red]{escape(_words(fault))}[/red]")
        sound = "everything is what was written" if findings.is_sound else "the trail is not what was written"
        console.print(f"{findings.blocks} objects with {findings.lines} lines: {sound}")
    if not findings.is_sound:
        raise typer.Exit(FAILED)


def findings_document(findings: Findings) -> Document:
    return {
        "sound": findings.is_sound,
        "objects": findings.blocks,
        "lines": findings.lines,
        "faults": [
            {
                "shard": fault.shard if fault.shard >= 0 else None,
                "key": fault.key,
                "line": fault.line,
                "fault": fault.what,
            }
            for fault in findings.faults
        ],
    }


def _words(fault: Fault) -> str:
    where = f"{fault.key}:{fault.line}" if fault.line is not None else fault.key
    return f"{where}: {fault.what}" if where else fault.what


def _days(first: str | None, last: str | None) -> tuple[date | None, date | None]:
    since, until = _day("--from", first), _day("--to", last)
    if since is not None and until is not None and since > until:
        raise BadUsage("--from is after --to")
    return since, until


def _received_on(message_id: str) -> date:
    """By its id, which may be some clock's that is behind those of the functions, but hardly a day."""
    try:
        milliseconds, _ = decode_ulid(message_id)
        return datetime.fromtimestamp(milliseconds / 1000, UTC).date()
    except (ValueError, OverflowError, OSError):
        raise BadUsage(f"{message_id!r} is no message id: its time is none") from None


def _day(option: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadUsage(f"{option} {text!r}: expected a day such as 2026-11-21") from None
