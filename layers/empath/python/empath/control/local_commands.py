"""`empathctl local`: the whole relay on this machine. The work is in `empath.local`."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from empath.control.errors import FAILED, BadUsage, ControlError
from empath.control.render import plain
from empath.control.target import DEFAULT_STATE_DIR

if TYPE_CHECKING:
    from empath.local.state import RunningStack

FUNCTIONS = ("resolve", "deliver", "retry", "dsn", "journal")

local = typer.Typer(
    help="The whole relay on this machine.", no_args_is_help=True, pretty_exceptions_enable=False
)

StateDir = Annotated[Path, typer.Option(envvar="EMPATH_STATE_DIR", help="Where the stack keeps its things.")]


def _port(flag: str, what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(flag, min=1, max=65_535, help=what)
    return option


@local.command()
def up(
    state_dir: StateDir = DEFAULT_STATE_DIR,
    smtp_port: Annotated[int | None, _port("--smtp-port", "SMTP (EMPATH_SMTP_PORT, 2525).")] = None,
    aws_port: Annotated[int | None, _port("--aws-port", "AWS (EMPATH_AWS_PORT, 4566).")] = None,
    inbox_port: Annotated[int | None, _port("--inbox-port", "Inbox (EMPATH_INBOX_PORT, 2526).")] = None,
    dns_port: Annotated[int | None, _port("--dns-port", "DNS (EMPATH_DNS_PORT, 2553).")] = None,
    submission_port: Annotated[
        int | None, _port("--submission-port", "Submission (EMPATH_SUBMISSION_PORT, 2587 if it is free).")
    ] = None,
    submissions_port: Annotated[
        int | None,
        _port("--submissions-port", "Submission over TLS (EMPATH_SUBMISSIONS_PORT, 2465 if it is free)."),
    ] = None,
    health_port: Annotated[
        int | None, _port("--health-port", "Health (EMPATH_HEALTH_PORT, 2580 if it is free).")
    ] = None,
) -> None:
    """Start everything and hold it until Ctrl-C."""
    from empath.local.errors import LocalStackError
    from empath.local.options import LocalOptions
    from empath.local.stack import run_until_stopped

    console = Console(highlight=False, soft_wrap=True)

    def tell(line: str) -> None:
        console.print(line, markup=False)

    try:
        options = LocalOptions.from_environment(
            os.environ,
            state_dir=state_dir,
            smtp_port=smtp_port,
            aws_port=aws_port,
            inbox_port=inbox_port,
            dns_port=dns_port,
            submission_port=submission_port,
            submissions_port=submissions_port,
            health_port=health_port,
        )
    except LocalStackError as error:
        raise BadUsage(error.problem, error.remedy) from None

    try:
        asyncio.run(
            run_until_stopped(options, tell, lambda stack: _announce(console, state_dir, stack.running))
        )
    except LocalStackError as error:
        raise ControlError(error.problem, error.remedy) from error
    except PermissionError as error:
        raise ControlError(f"{error.filename} cannot be written ({error.strerror})") from error


@local.command()
def status(state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """The addresses of the running local stack. Exits with 1 when none runs."""
    running = _running(state_dir)
    if running is None:
        Console().print(f"no local stack runs in {state_dir}", markup=False, soft_wrap=True)
        raise typer.Exit(FAILED)
    _show(Console(highlight=False, soft_wrap=True), state_dir, running)


@local.command()
def down(state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """Stop the local stack; success, too, when none runs."""
    from empath.local.errors import LocalStackError
    from empath.local.stack import take_down

    try:
        stopped = asyncio.run(take_down(state_dir))
    except LocalStackError as error:
        raise ControlError(error.problem, error.remedy) from None
    words = "stopped" if stopped else f"no local stack runs in {state_dir}"
    Console().print(words, markup=False, soft_wrap=True)


@local.command()
def invoke(
    function: Annotated[str, typer.Argument(help=f"One of {', '.join(FUNCTIONS)}.")],
    event: Annotated[Path, typer.Argument(help="A file with the event, such as those in events/.")],
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Hand an event to a function of the local stack and print what it returns."""
    from empath.local.errors import LocalStackError
    from empath.local.invoke import invoke as invoke_function
    from empath.local.invoke import read_event

    if function not in FUNCTIONS:
        raise BadUsage(f"there is no function {function!r}", f"use one of {', '.join(FUNCTIONS)}")
    try:
        payload = read_event(event)
    except LocalStackError as error:
        raise BadUsage(error.problem, error.remedy) from None
    running = _running(state_dir)
    if running is None:
        raise ControlError(f"no local stack runs in {state_dir}", "start it with `make run`")
    try:
        result = invoke_function(running, function, payload)
    except LocalStackError as error:
        raise ControlError(error.problem, error.remedy) from None
    Console(highlight=False, soft_wrap=True).print(result, markup=False)


@local.command()
def events(
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON each, as the bus has it.")] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """What applications were told over the event bus since this was last asked."""
    from empath.local.errors import LocalStackError
    from empath.local.events import told

    running = _running(state_dir)
    if running is None:
        raise ControlError(f"no local stack runs in {state_dir}", "start it with `make run`")
    console = Console(highlight=False, soft_wrap=True)
    try:
        for event in told(running):
            detail = event.get("detail", {})
            words = (str(detail.get(name, "")) for name in ("message_id", "recipient", "reply"))
            line = f"{event.get('time')}  {event.get('detail-type')}  {'  '.join(words)}"
            console.print(json.dumps(event) if as_json else plain(line), markup=False)
    except LocalStackError as error:
        raise ControlError(error.problem, error.remedy) from None


def _running(state_dir: Path) -> RunningStack | None:
    from empath.local.errors import LocalStackError
    from empath.local.state import read_state

    try:
        running = read_state(state_dir)
    except LocalStackError as error:
        raise ControlError(error.problem, error.remedy) from None
    return running if running is not None and running.is_alive() else None


def _announce(console: Console, state_dir: Path, running: RunningStack) -> None:
    _show(console, state_dir, running)
    console.print("empath: ready")


def _show(console: Console, state_dir: Path, running: RunningStack) -> None:
    from empath.local.user import NAME, read_password

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ignore")
    table.add_row("SMTP, send mail here", running.smtp)
    for what, address in (
        ("submission, STARTTLS", running.submission),
        ("submission, TLS at once", running.submissions),
    ):
        if address:
            table.add_row(what, address)
    password = read_password(state_dir)
    if password is not None:
        table.add_row("user for submission", f"{NAME}, password {password}")
    table.add_row("inbox, plays the Internet", running.inbox)
    table.add_row("mail that arrived", f"{state_dir / 'inbox'}/<domain>/")
    table.add_row("DNS of that Internet", running.dns)
    if running.health:
        table.add_row("health of the ingress", f"http://{running.health}/health/ready")
    table.add_row("AWS", running.endpoint_url)
    table.add_row("logs", str(state_dir))
    console.print(table, crop=False)
