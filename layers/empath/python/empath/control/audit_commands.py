"""`empathctl audit`: whether the trail is what was written."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Annotated

import typer
from rich.markup import escape

from empath.control.documents import Document
from empath.control.errors import FAILED, BadUsage
from empath.control.options import SETTINGS, AsJson, StateDir, new_console, print_json
from empath.control.target import DEFAULT_STATE_DIR, find_target
from empath.pipeline.audit_check import Fault, Findings, check

audit = typer.Typer(help="The audit trail.", **SETTINGS)

First = Annotated[str | None, typer.Option("--from", metavar="DAY", help="The first day, 2026-11-21 (UTC).")]
Last = Annotated[str | None, typer.Option("--to", metavar="DAY", help="The last day.")]


@audit.callback()
def main() -> None:
    """Keeps `verify` a command of its own, beside which others may come."""


@audit.command()
def verify(
    first: First = None,
    last: Last = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Check every link, object and line of the trail. Exits with 1 at the first fault of any chain."""
    since, until = _day("--from", first), _day("--to", last)
    if since is not None and until is not None and since > until:
        raise BadUsage("--from is after --to")
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


def _day(option: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadUsage(f"{option} {text!r}: expected a day such as 2026-11-21") from None
