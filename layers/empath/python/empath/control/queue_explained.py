"""Explanations for a person, on one screen, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from empath.control.documents import Document
from empath.control.queue_explaining import Explanation
from empath.control.queue_facts import Facts
from empath.control.render import moment, plain, state_text
from empath.domain.instant import format_instant

LABEL = 12
"""Columns that the names of the lines take."""


def show_explanations(
    console: Console, message_id: str, facts: Facts, explanations: Sequence[Explanation], now: datetime
) -> None:
    message = facts.message
    console.print(Text.assemble("message ", (message_id, "bold")))
    if message is not None:
        sender = "<> (null reverse-path)" if message.reverse_path is None else str(message.reverse_path)
        user = f", user {message.source.user}" if message.source.user else ""
        tenant = f", tenant {message.tenant}" if message.tenant else ""
        _line(console, "from", f"{sender}{user}{tenant}")
        _line(console, "received", f"{moment(message.received_at, now)}, {message.priority} priority")
    for each in explanations:
        _show(console, each, now)
    for words in facts.unknown:
        console.print(plain(f"not known, {words}", "yellow"))


def explanation_document(message_id: str, facts: Facts, explanations: Sequence[Explanation]) -> Document:
    return {
        "message_id": message_id,
        "deliveries": [
            {
                "delivery": each.record.delivery,
                "domain": each.record.domain,
                "status": each.record.status.value,
                "happened": list(each.happened),
                "route": each.route,
                "tls": each.tls,
                "held_back": [
                    {"rule": rule.name, "text": rule.text, "until": _instant(rule.until)}
                    for rule in each.held_back
                ],
                "next": {"step": each.next.step, "at": _instant(each.next.at), "text": each.next.text},
                "expires": _instant(each.record.expires),
                "advice": list(each.advice),
            }
            for each in explanations
        ],
        "unknown": facts.unknown,
    }


def _show(console: Console, each: Explanation, now: datetime) -> None:
    record = each.record
    console.print()
    console.print(
        Text.assemble(
            plain(record.delivery.removeprefix("delivery#"), "bold"), "  ", state_text(record.status)
        )
    )
    _lines(console, "happened", each.happened)
    _line(console, "goes to", each.route)
    _line(console, "TLS", each.tls)
    rules = [
        f"{rule.text}{f', until {moment(rule.until, now)}' if rule.until else ''}" for rule in each.held_back
    ]
    _lines(console, "held back by", rules or ["nothing"])
    at = f", {moment(each.next.at, now)}" if each.next.at is not None else ""
    _line(console, "next", f"{each.next.text}{at}")
    if each.next.step in ("attempt", "attempt_running"):
        _line(console, "given up", moment(record.expires, now))
    _lines(console, "you can", each.advice)


def _lines(console: Console, label: str, texts: Iterable[str]) -> None:
    for text in texts:
        _line(console, label, text)
        label = ""


def _line(console: Console, label: str, text: str) -> None:
    console.print(plain(f"  {label:{LABEL}}  {text}"))


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)
