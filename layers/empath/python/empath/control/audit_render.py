"""Lines of the audit trail for a person, one below the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from empath.control.render import plain
from empath.pipeline.audit_reading import Told

Line = Mapping[str, Any]


def show_lines(console: Console, told: Told) -> None:
    for line in told.lines:
        moment = str(line.get("at", ""))[:19].replace("T", " ")
        console.print(plain(f"{moment}  {line.get('type')!s:15}  {', '.join(_words(line))}"))
    for problem in told.unreadable:
        console.print(plain(problem, "red"))


def _words(line: Line) -> Iterator[str]:
    match line.get("type"):
        case "MessageReceived":
            yield from _received(line)
        case "DeliveryAttempt":
            yield from _attempt(line)
        case "DeliverySuccess" | "DeliveryFailure":
            yield f"{line.get('recipient')} {line.get('state')}"
            yield from _reply(line)
        case "OperatorAction":
            yield from _action(line)
        case _:
            # Of a later release, perhaps: all that it says.
            yield from (f"{name} {value}" for name, value in line.items())


def _received(line: Line) -> Iterator[str]:
    yield f"from {line.get('reverse_path') or '<>'}"
    if line.get("client"):
        yield f"client {line['client']}" + (f" (HELO {line['helo']})" if line.get("helo") else "")
    if line.get("user"):
        yield f"user {line['user']}"
    if line.get("report_of"):
        yield f"a report about {line['report_of']}"
    if line.get("size") is not None:
        yield f"{line['size']} octets"


def _attempt(line: Line) -> Iterator[str]:
    yield f"{line.get('domain')}: attempt {line.get('attempt')}"
    if line.get("next_hop"):
        yield f"to {line['next_hop']}"
    if line.get("tls"):
        yield str(line["tls"])
    if line.get("duration") is not None:
        yield f"{line['duration']:.1f} s"
    if line.get("ambiguous"):
        yield "ambiguous: the message may have been sent"
    yield from (f"{address} {state}" for address, state in (line.get("recipients") or {}).items())
    yield from _reply(line)


def _action(line: Line) -> Iterator[str]:
    yield f"{line.get('action')} by {line.get('operator')}: {line.get('result')}"
    about = line.get("target") or line.get("delivery")
    if about:
        yield f"of {about}"
    if line.get("before") is not None or line.get("after") is not None:
        yield f"{line.get('before')} -> {line.get('after')}"
    if line.get("problem"):
        yield str(line["problem"])


def _reply(line: Line) -> Iterator[str]:
    if line.get("reply"):
        yield str(line["reply"])
    cause = " ".join(str(line[name]) for name in ("reason", "trouble") if line.get(name))
    if cause:
        yield f"({cause})"
