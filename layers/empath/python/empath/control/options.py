"""What the commands have in common: their options, and where their words go."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from empath.control.documents import Document

SETTINGS: dict[str, Any] = {"no_args_is_help": True, "pretty_exceptions_enable": False}

StateDir = Annotated[
    Path,
    typer.Option(
        envvar="EMPATH_STATE_DIR", help="Where the local stack keeps its things; else AWS is asked."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (fields: docs/empathctl.md).")]


def new_console() -> Console:
    # Where nobody looks (a pipe, a file) lines are not cut at 80 columns.
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 250
    return console


def print_json(document: Document) -> None:
    typer.echo(json.dumps(document, indent=2))
