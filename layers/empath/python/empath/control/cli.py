"""The commands: read the command line, call a plain function, print what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from empath.control import documents, render, sending
from empath.control.audit_commands import audit
from empath.control.circuit_commands import circuit
from empath.control.dns_commands import dns
from empath.control.errors import FAILED, BadUsage
from empath.control.local_commands import local
from empath.control.options import SETTINGS, AsJson, StateDir, new_console, print_json
from empath.control.policy_commands import policy
from empath.control.queue_commands import queue
from empath.control.reconcile_commands import reconcile
from empath.control.suppress_commands import suppress
from empath.control.target import DEFAULT_STATE_DIR, find_local
from empath.control.user_commands import user

app = typer.Typer(help="Look after an Empath mail relay.", add_completion=False, **SETTINGS)
app.add_typer(queue, name="queue")
app.add_typer(user, name="user")
app.add_typer(audit, name="audit")
app.add_typer(suppress, name="suppress")
app.add_typer(policy, name="policy")
app.add_typer(dns, name="dns")
app.add_typer(circuit, name="circuit")
app.add_typer(local, name="local")
app.command()(reconcile)


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also after a command).")] = False,
) -> None:
    """Handled where the command ends, see `__main__`."""


@app.command()
def send(
    sender: Annotated[str, typer.Option("--from", help="Reverse-path; '<>' is the null one.")],
    to: Annotated[list[str], typer.Option("--to", help="A recipient; may be given several times.")],
    file: Annotated[
        Path | None,
        typer.Option(help="The message as it is; only bare LF line ends become CRLF, and that is said."),
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="host:port; without it the local stack's, or 127.0.0.1:2525.")
    ] = None,
    subject: Annotated[str, typer.Option(help="Of the small message that is made without --file.")] = "Hello",
    text: Annotated[str, typer.Option(help="Its text.")] = "Hello from empathctl.",
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Send a message over SMTP. Exits with 1 when the message or any recipient is refused."""
    reverse_path = sending.read_sender(sender)
    recipients = [sending.read_address("--to", address) for address in to]
    if file is None:
        content, changed = sending.small_message(reverse_path, recipients, subject, text), None
    else:
        content, changed = sending.transport_form(_read(file))
    if server is None:
        stack = find_local(state_dir)
        server = (stack.smtp if stack else None) or sending.DEFAULT_SERVER
    receipt = sending.send(server, reverse_path, recipients, content)
    if as_json:
        print_json(documents.receipt_document(receipt, changed))
    else:
        render.show_receipt(new_console(), receipt, changed)
    if not receipt.is_complete:
        raise typer.Exit(FAILED)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadUsage(f"--file {file}: {error.strerror}") from None
