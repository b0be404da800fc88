"""`empathctl queue`: what waits, why, and what an operator does about it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from empath.control import (
    documents,
    policies,
    policy_commands,
    queue_explained,
    queue_explaining,
    queue_facts,
    queue_freezing,
    queue_operating,
    queue_reading,
    queue_selection,
    render,
)
from empath.control.changing import change
from empath.control.errors import FAILED, BadUsage
from empath.control.options import SETTINGS, AsJson, StateDir, new_console, print_json
from empath.control.policies import Change
from empath.control.target import DEFAULT_STATE_DIR, Target, find_target
from empath.domain.circuit import Circuit
from empath.domain.delivery_state import State
from empath.domain.records import DeliveryRecord, MessageRecord, OperationName
from empath.pipeline.operating import Operated
from empath.pipeline.operator_log import Entry
from empath.ports import Listed
from empath.ports.policies import Policies

queue = typer.Typer(help="What waits, what failed, why, and what to do about it.", **SETTINGS)

MessageId = Annotated[str, typer.Argument(metavar="ID", help="The message id, as the 250 reply said it.")]
OptionalId = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="A message id; or else all deliveries that match.")
]
Domain = Annotated[str | None, typer.Option(help="Only deliveries to this domain.")]
Tenant = Annotated[str | None, typer.Option(help="Only mail of this tenant.")]
Reason = Annotated[str | None, typer.Option(help="Only what is so for this reason, as `queue list` says it.")]
Statuses = Annotated[
    list[str] | None, typer.Option(help="deferred, held, failed or expired; several times; default all.")
]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Deliveries at most, without ID.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask (without ID).")]
Wait = Annotated[float, typer.Option(min=0, max=3600, help="Seconds to wait for what a worker has just now.")]


@queue.command("list")
def list_(
    status: Statuses = None,
    domain: Domain = None,
    tenant: Tenant = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Deliveries shown at most.")] = 100,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Deliveries that are not simply on their way, and how deep the queues are."""
    wanted = queue_selection.read_selection(status or [], domain, tenant, reason)
    target = find_target(state_dir)

    async def read() -> tuple[list[Listed], bool]:
        async with target.ledger() as ledger:
            return await queue_reading.list_deliveries(ledger, wanted.statuses, limit, wanted.matches)

    rows, has_more = asyncio.run(read())
    depths = queue_reading.read_depths(target)
    if as_json:
        print_json(documents.listing_document(rows, depths, has_more=has_more))
    else:
        render.show_listing(new_console(), rows, depths, has_more=has_more, now=datetime.now(UTC))


@queue.command()
def view(message_id: MessageId, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """One message: every recipient, every attempt, and what comes next."""
    wanted = queue_reading.read_message_id(message_id)
    target = find_target(state_dir)

    async def read() -> tuple[MessageRecord | None, Sequence[DeliveryRecord], Mapping[str, Circuit]]:
        async with target.ledger() as ledger:
            message, deliveries = await queue_reading.message_and_deliveries(ledger, wanted)
        if not any(record.status is State.QUEUED and record.site for record in deliveries):
            return message, deliveries, {}
        # What was never tried may be held back by a gate, and its record does not say so.
        async with target.gates() as gates:
            return message, deliveries, await gates.circuits()

    message, deliveries, circuits = asyncio.run(read())
    now = datetime.now(UTC)
    if as_json:
        print_json(documents.message_document(wanted, message, deliveries, now, circuits))
    else:
        render.show_message(new_console(), wanted, message, deliveries, now, circuits)


@queue.command()
def explain(message_id: MessageId, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Why a message is where it is: what happened, what holds it back, what comes next, what can be done."""
    wanted = queue_reading.read_message_id(message_id)
    now = datetime.now(UTC)
    facts = asyncio.run(queue_facts.gather(find_target(state_dir), wanted, now))
    explanations = queue_explaining.explain(facts, now)
    if as_json:
        print_json(queue_explained.explanation_document(wanted, facts, explanations))
    else:
        queue_explained.show_explanations(new_console(), wanted, facts, explanations, now)


HELP: Mapping[OperationName, str] = {
    "hold": "Keep deliveries from being tried until they are released. What is held does not expire.",
    "release": "Try what is held, now. What was held beyond its time gets one last attempt.",
    "retry": "Make the next attempt now. It counts, and gates (circuits, rates) have their say.",
    "delete": "Give deliveries up for good. Nobody is told, unless --report says so.",
}


def _command(action: OperationName) -> None:
    @queue.command(action, help=HELP[action])
    def operation(
        message_id: OptionalId = None,
        status: Statuses = None,
        domain: Domain = None,
        tenant: Tenant = None,
        reason: Reason = None,
        limit: Limit = 10_000,
        wait: Wait = 0,
        yes: Yes = False,
        state_dir: StateDir = DEFAULT_STATE_DIR,
        as_json: AsJson = False,
    ) -> None:
        chosen = _chosen(action, message_id, status, domain, tenant, reason)
        _operate(action, chosen, state_dir, limit=limit, wait=wait, yes=yes, as_json=as_json)


_command("hold")
_command("release")
_command("retry")


@queue.command(help=HELP["delete"])
def delete(
    message_id: OptionalId = None,
    status: Statuses = None,
    domain: Domain = None,
    tenant: Tenant = None,
    reason: Reason = None,
    limit: Limit = 10_000,
    wait: Wait = 0,
    report: Annotated[
        bool, typer.Option("--report", help="Tell the senders, with a report that it failed.")
    ] = False,
    yes: Yes = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    chosen = _chosen("delete", message_id, status, domain, tenant, reason)
    _operate("delete", chosen, state_dir, limit=limit, wait=wait, yes=yes, as_json=as_json, report=report)


Frozen = Annotated[str, typer.Argument(metavar="DOMAIN", help="A destination domain, or '*' for all.")]


@queue.command()
def freeze(domain: Frozen, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Try nothing for a domain until it is unfrozen. Mail waits, and expires when its time is over."""
    name = _to_freeze(domain)
    target = find_target(state_dir)

    async def work(store: Policies, line: Entry) -> Change:
        return policy_commands.noted(line, await queue_freezing.freeze(store, name))

    frozen = change(target, "queue freeze", name, target.policies, work)
    if as_json:
        print_json({"frozen": name, "policy": frozen.after})
    else:
        new_console().print(f"mail to {name} is not tried any more; {policy_commands.SOON}", markup=False)


@queue.command()
def unfreeze(
    domain: Frozen, limit: Limit = 10_000, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False
) -> None:
    """Try a domain again, and what a freeze put off in half a minute. Exits with 1 when it is not frozen."""
    name = _to_freeze(domain)
    target = find_target(state_dir)

    async def work(store: Policies, line: Entry) -> Change:
        return policy_commands.noted(line, await queue_freezing.unfreeze(store, name))

    async def wake() -> tuple[list[Operated], bool]:
        async with target.operations() as operations:
            return await queue_freezing.wake(operations, name, limit)

    lifted = change(target, "queue unfreeze", name, target.policies, work)
    woken, has_more = asyncio.run(wake())
    if as_json:
        outcome = queue_operating.outcome_document("retry", woken, has_more=has_more)
        print_json({"unfrozen": name, "policy": lifted.after, "woken": outcome})
    else:
        console = new_console()
        console.print(f"mail to {name} is tried again; {policy_commands.SOON}", markup=False)
        due = f"due in {queue_freezing.IN_FORCE_AFTER:.0f} seconds"
        queue_operating.show_outcomes_in_bulk(
            console, "retry", woken, datetime.now(UTC), has_more=has_more, past=due
        )
    if not queue_operating.is_success(woken, in_bulk=True):
        raise typer.Exit(FAILED)


def _to_freeze(text: str) -> str:
    name = policies.read_policy_name(text)
    if name.startswith(policies.TENANT):
        raise BadUsage(f"{text!r} is a tenant: a destination domain is needed, or '*' for all")
    return name


Chosen = tuple[str | None, queue_selection.Selection]
"""A message (and perhaps a domain of it), or what matches."""


def _chosen(
    action: OperationName,
    message_id: str | None,
    status: Sequence[str] | None,
    domain: str | None,
    tenant: str | None,
    reason: str | None,
) -> Chosen:
    if message_id is not None:
        if status or tenant is not None or reason is not None:
            raise BadUsage("of a message, only --domain can be chosen")
        return queue_reading.read_message_id(message_id), queue_selection.Selection((), domain)
    if not status and domain is None and tenant is None and reason is None:
        raise BadUsage("a message id is needed, or --status, --domain, --tenant or --reason")
    possible = queue_selection.OPERABLE[action]
    return None, queue_selection.read_selection(status or [], domain, tenant, reason, possible=possible)


def _operate(
    action: OperationName,
    chosen: Chosen,
    state_dir: StateDir,
    *,
    limit: int,
    wait: float,
    yes: bool,
    as_json: bool,
    report: bool = False,
) -> None:
    message_id, selection = chosen
    target = find_target(state_dir)
    if message_id is not None:
        found, has_more = (
            asyncio.run(_on_message(target, action, message_id, selection.domain, report, wait)),
            False,
        )
    else:
        rows, has_more = asyncio.run(_matching(target, selection, action, limit))
        _confirm(action, len(rows), has_more=has_more, yes=yes, as_json=as_json)
        found = asyncio.run(_on_rows(target, action, rows, report, wait))
    now = datetime.now(UTC)
    if as_json:
        print_json(queue_operating.outcome_document(action, found, has_more=has_more))
    elif message_id is not None:
        queue_operating.show_outcomes(new_console(), action, found, now)
    else:
        queue_operating.show_outcomes_in_bulk(new_console(), action, found, now, has_more=has_more)
    if not queue_operating.is_success(found, in_bulk=message_id is None):
        raise typer.Exit(FAILED)


async def _on_message(
    target: Target, action: OperationName, message_id: str, domain: str | None, report: bool, wait: float
) -> Sequence[Operated]:
    async with target.operations() as operations:
        keys = await queue_operating.keys_of(operations, message_id, domain)
        return await queue_operating.operate_and_wait(operations, action, keys, report=report, patience=wait)


async def _matching(
    target: Target, selection: queue_selection.Selection, action: OperationName, limit: int
) -> tuple[Sequence[Listed], bool]:
    if action == "retry":
        # What is due already has its turn; a second run takes what the first one left.
        selection = queue_selection.due_later(selection, datetime.now(UTC))
    async with target.ledger() as ledger:
        return await queue_reading.list_deliveries(ledger, selection.statuses, limit, selection.matches)


async def _on_rows(
    target: Target, action: OperationName, rows: Sequence[Listed], report: bool, wait: float
) -> Sequence[Operated]:
    if not rows:
        return []
    async with target.operations() as operations:
        keys = [row.key for row in rows]
        return await queue_operating.operate_and_wait(operations, action, keys, report=report, patience=wait)


def _confirm(action: OperationName, count: int, *, has_more: bool, yes: bool, as_json: bool) -> None:
    """Ask whoever sits at a terminal. Raises BadUsage where nobody can be asked, Abort for a no."""
    if yes or not count:
        return
    what = f"{action} {'the first ' if has_more else ''}{queue_operating.counted(count)}"
    if as_json or not sys.stdin.isatty():
        raise BadUsage(f"this would {what}; nothing was done: add --yes")
    typer.confirm(f"{what.capitalize()}?", abort=True)
