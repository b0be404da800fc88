"""The same for a person: tables and paragraphs, nothing that a terminal could take for a command."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from empath.control.queue_reading import Depth
from empath.control.sending import Receipt
from empath.control.story import next_of, told_attempt, told_operation, told_report
from empath.domain.circuit import Circuit
from empath.domain.delivery_state import State
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.domain.user import User
from empath.ports import Listed

_STYLES = {
    State.SENT: "green",
    State.DEFERRED: "yellow",
    State.QUEUED: "cyan",
    State.HELD: "magenta",
    State.FAILED: "red",
    State.EXPIRED: "red",
    State.CANCELLED: "dim",
}
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def show_listing(
    console: Console, rows: Sequence[Listed], depths: Sequence[Depth], *, has_more: bool, now: datetime
) -> None:
    if rows:
        table = Table("message", "delivery", "status", "attempts", "due or since", "reason", box=None)
        for row in rows:
            table.add_row(
                row.key.message_id,
                plain(row.key.delivery.removeprefix("delivery#")),
                state_text(row.status),
                str(row.attempt - 1),
                moment(row.at, now),
                plain(row.reason or ""),
            )
        console.print(table)
        if has_more:
            console.print("... and more; see --limit")
    else:
        console.print("No delivery is deferred, held, failed or expired, as far as was asked.")
    if depths:
        table = Table("queue", "waiting", "in work", "delayed", "dead letters", box=None)
        dead = {depth.queue: depth for depth in depths if depth.is_dead}
        for depth in depths:
            if not depth.is_dead:
                letters = (
                    dead[depth.queue].visible + dead[depth.queue].in_flight if depth.queue in dead else 0
                )
                table.add_row(
                    depth.queue.value,
                    str(depth.visible),
                    str(depth.in_flight),
                    str(depth.delayed),
                    str(letters),
                )
        console.print()
        console.print(table)


def show_message(
    console: Console,
    message_id: str,
    message: MessageRecord | None,
    deliveries: Sequence[DeliveryRecord],
    now: datetime,
    circuits: Mapping[str, Circuit] | None = None,
) -> None:
    console.print(Text.assemble("message ", (message_id, "bold")))
    if message is not None:
        sender = "<> (null reverse-path)" if message.reverse_path is None else str(message.reverse_path)
        console.print(plain(f"  from      {sender}"))
        console.print(f"  received  {moment(message.received_at, now)}")
        if message.source.client:
            console.print(plain(f"  client    {message.source.client} (HELO {message.source.helo or '-'})"))
        if message.source.report_of:
            console.print(plain(f"  report of {message.source.report_of}"))
        console.print(f"  size      {message.size} octets")
        console.print(f"  settled   {len(message.settled)} of {message.deliveries} deliveries")
    for record in deliveries:
        _show_delivery(console, record, now, circuits)


def _show_delivery(
    console: Console, record: DeliveryRecord, now: datetime, circuits: Mapping[str, Circuit] | None
) -> None:
    console.print()
    console.print(
        Text.assemble(
            plain(record.delivery.removeprefix("delivery#"), "bold"), "  ", state_text(record.status)
        )
    )
    recipients = Table("recipient", "state", "reply", "next hop", box=None)
    for address, recipient in sorted(record.recipients.items()):
        recipients.add_row(
            plain(address),
            state_text(recipient.state),
            plain(str(recipient.reply or "")),
            plain(recipient.next_hop or ""),
        )
    console.print(recipients)
    for attempt in record.attempts:
        took = "" if attempt.duration is None else f" in {attempt.duration:.1f} s"
        where = f" to {attempt.next_hop}" if attempt.next_hop else ""
        tls = f" over {attempt.tls}" if attempt.tls else ""
        line = f"  attempt {attempt.attempt} at {moment(attempt.started, now)}{took}{where}{tls}: "
        console.print(plain(line + told_attempt(attempt, record, now)))
    if record.operation is not None:
        console.print(plain(f"  operator: {told_operation(record.operation)}"))
    for event, state in sorted(record.reports.items()):
        console.print(plain(f"  report {event}: {told_report(state)}"))
    following = next_of(record, now, circuits)
    when = "" if following.at is None else f", {moment(following.at, now)}"
    console.print(plain(f"  next: {following.text}{when}"))
    if following.step == "attempt":
        console.print(f"  given up at {moment(record.expires, now)}")


def show_receipt(console: Console, receipt: Receipt, changed: str | None) -> None:
    if changed:
        console.print(f"note: {changed}; nothing else was changed")
    for address, answer in receipt.recipients:
        style = "green" if answer.is_positive else "red"
        console.print(plain(f"{address}: {answer}", style))
    verdict = "accepted" if receipt.final.is_positive else "refused"
    console.print(plain(f"{verdict} by {receipt.server}: {receipt.final}"))


def show_users(console: Console, users: Sequence[User], now: datetime) -> None:
    if not users:
        console.print("There are no users.")
        return
    table = Table("user", "sends from", "tenant", "priority", "an hour", "password", "since", box=None)
    for user in users:
        since = f"created {moment(user.created_at, now)}"
        if user.revoked_at is not None:
            since = f"revoked {moment(user.revoked_at, now)}"
        table.add_row(
            plain(user.name),
            plain(", ".join(user.domains) or "<> only"),
            plain(user.tenant or ""),
            user.priority,
            "default" if user.messages_per_hour is None else str(user.messages_per_hour),
            "yes" if user.password_hash is not None else "none",
            Text(since, style="" if user.revoked_at is None else "red"),
        )
    console.print(table)


def show_user(console: Console, user: User, now: datetime) -> None:
    console.print(Text.assemble("user ", plain(user.name, "bold")))
    console.print(plain(f"  sends from  {', '.join(user.domains) or '<> (null reverse-path) only'}"))
    console.print(plain(f"  tenant      {user.tenant or '-'}"))
    console.print(f"  priority    {user.priority}")
    limit = user.messages_per_hour
    console.print(
        f"  rate        {'as the deployment grants it' if limit is None else f'{limit} messages an hour'}"
    )
    password = "none; known by a client certificate only" if user.password_hash is None else "set"
    console.print(f"  password    {password}")
    console.print(f"  created     {moment(user.created_at, now)}")
    if user.revoked_at is not None:
        console.print(plain(f"  revoked     {moment(user.revoked_at, now)}", "red"))


def state_text(state: State) -> Text:
    return Text(state.value, style=_STYLES[state])


def plain(text: str, style: str = "") -> Text:
    """Strangers' words as they are: no markup, no control characters."""
    return Text(_UNPRINTABLE.sub(" ", text), style=style)


def moment(instant: datetime, now: datetime) -> str:
    """`2026-03-01 12:00:05 UTC (in 3 min)`."""
    seconds = (instant - now).total_seconds()
    distance = _distance(abs(seconds))
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC ({f'in {distance}' if seconds > 0 else f'{distance} ago'})"


def _distance(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size * 2:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
