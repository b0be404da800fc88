"""Operations on deliveries as the command line speaks of them: what was meant, and what became of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Console

from empath.control.documents import Document
from empath.control.errors import ControlError
from empath.control.queue_reading import message_and_deliveries
from empath.control.queue_selection import of_domain
from empath.control.render import moment, plain
from empath.domain.instant import format_instant
from empath.domain.records import DeliveryKey, OperationName
from empath.pipeline.operating import Did, Operated, Operations

PAST: Mapping[OperationName, str] = {
    "hold": "held",
    "release": "released",
    "retry": "due now",
    "delete": "deleted",
}

PAUSE = 2.0
"""Seconds between two looks at a delivery that a worker has."""

SHOWN = 20
"""Of an operation in bulk, the deliveries that are told one by one: those that are not done."""

_REFUSED: Mapping[OperationName, str] = {
    "hold": "there is nothing left to hold",
    "release": "there is nothing left to release",
    "retry": "there is nothing left to try",
    "delete": "there is nothing left to delete",
}


async def keys_of(operations: Operations, message_id: str, domain: str | None) -> list[DeliveryKey]:
    """A message's deliveries (to a domain). Raises ControlError when there are none."""
    _, deliveries = await message_and_deliveries(operations.ledger, message_id)
    goes_there = of_domain(domain)
    keys = [record.key for record in deliveries if goes_there(record.delivery)]
    if not keys:
        domains = ", ".join(sorted({record.domain for record in deliveries}))
        raise ControlError(f"message {message_id} does not go to {domain}", f"it goes to {domains}")
    return keys


async def operate_and_wait(
    operations: Operations,
    action: OperationName,
    keys: Sequence[DeliveryKey],
    *,
    report: bool,
    patience: float,
) -> list[Operated]:
    """Do `action`, again and again to what workers have, for `patience` seconds."""
    found = {one.key: one for one in await operations.operate_all(action, keys, report=report)}
    while patience > 0 and (busy := [key for key, one in found.items() if one.did is Did.BUSY]):
        pause = min(PAUSE, patience)
        await asyncio.sleep(pause)
        patience -= pause
        found |= {one.key: one for one in await operations.operate_all(action, busy, report=report)}
    return list(found.values())


def is_success(found: Sequence[Operated], *, in_bulk: bool) -> bool:
    """Whether what was asked for is so now. In bulk, what has moved on since it was listed is no failure."""
    did = Counter(one.did for one in found)
    if did[Did.BUSY] or did[Did.FAILED]:
        return False
    return in_bulk or not found or bool(did[Did.DONE] or did[Did.UNCHANGED])


def outcome_document(action: OperationName, found: Sequence[Operated], *, has_more: bool = False) -> Document:
    return {
        "operation": action,
        "counts": {did.value: sum(one.did is did for one in found) for did in Did},
        "has_more": has_more,
        "deliveries": [
            {
                "message_id": one.key.message_id,
                "delivery": one.key.delivery,
                "result": one.did.value,
                "before": one.before and one.before.value,
                "after": one.after and one.after.value,
                "busy_until": None if one.until is None else format_instant(one.until),
                "report": one.reported,
                "problem": one.problem,
            }
            for one in found
        ],
    }


def show_outcomes(console: Console, action: OperationName, found: Sequence[Operated], now: datetime) -> None:
    """Of one message: a line for each delivery."""
    for one in found:
        console.print(plain(f"{_name(one)}: {told(action, one, now)}"))


def show_outcomes_in_bulk(
    console: Console,
    action: OperationName,
    found: Sequence[Operated],
    now: datetime,
    *,
    has_more: bool,
    past: str | None = None,
) -> None:
    """Of many: how many came to what, and one by one those that are to be tried again."""
    did = Counter(one.did for one in found)
    parts = [f"{did[Did.DONE]} {past or PAST[action]}"]
    if did[Did.UNCHANGED]:
        parts.append(f"{did[Did.UNCHANGED]} so already")
    if moved_on := did[Did.REFUSED] + did[Did.MISSING]:
        parts.append(f"{moved_on} moved on in the meantime")
    if did[Did.BUSY]:
        parts.append(f"{did[Did.BUSY]} in work just now: run it again in a while")
    if did[Did.FAILED]:
        parts.append(f"{did[Did.FAILED]} failed: run it again")
    console.print(f"{counted(len(found))}: {'; '.join(parts)}")
    told_singly = [one for one in found if one.did in (Did.BUSY, Did.FAILED)]
    for one in told_singly[:SHOWN]:
        console.print(plain(f"{one.key.message_id} {_name(one)}: {told(action, one, now)}"))
    if len(told_singly) > SHOWN:
        console.print(f"... and {len(told_singly) - SHOWN} like these; --json has all")
    if has_more:
        console.print("... and more match; run it again for them, or raise --limit")


def told(action: OperationName, one: Operated, now: datetime) -> str:
    """What became of an operation on one delivery, and what to do where it was not done."""
    match one.did:
        case Did.DONE:
            words = f"{one.before} -> {one.after}"
            if action in ("retry", "release"):
                words += ", its attempt is due now"
            return words + (", and the sender gets a report" if one.reported else "")
        case Did.UNCHANGED:
            return f"{one.after} already, nothing to do"
        case Did.REFUSED if one.before == "HELD":
            return "HELD: release it first (`empathctl queue release`)"
        case Did.REFUSED:
            return f"{one.before}, {_REFUSED[action]}"
        case Did.BUSY:
            until = "" if one.until is None else f", at the latest until {moment(one.until, now)}"
            return f"a worker has it{until}; run this again, or with --wait SECONDS"
        case Did.MISSING:
            return "there is no such delivery any more"
        case Did.FAILED:
            return f"{one.problem}; run this again, doing it twice does no harm"


def counted(deliveries: int) -> str:
    return "1 delivery" if deliveries == 1 else f"{deliveries} deliveries"


def _name(one: Operated) -> str:
    return one.key.delivery.removeprefix("delivery#")
