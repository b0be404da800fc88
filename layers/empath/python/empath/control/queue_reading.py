"""What is in the queue: the ledger's listing, one message's records, and how deep the queues are."""

from __future__ import annotations

import asyncio
import heapq
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from empath.control.errors import BadUsage, ControlError
from empath.control.target import Target
from empath.domain.delivery_state import LISTED, State
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.ports import Ledger, Listed
from empath.ports.ledger import LISTING_SHARDS
from empath.ports.queue import QueueName

PAGE = 100
# A ULID (26 letters of Crockford's base 32).
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


@dataclass(frozen=True, slots=True)
class Depth:
    """How many jobs a queue has, as SQS estimates it."""

    queue: QueueName
    is_dead: bool
    visible: int
    in_flight: int
    delayed: int


def read_statuses(texts: Sequence[str]) -> list[State]:
    """Statuses by name, in any case; none means all that are listed. Raises BadUsage."""
    known = {state.value: state for state in LISTED}
    names = [text.upper() for text in texts]
    for text, name in zip(texts, names, strict=True):
        if name not in known:
            listed = ", ".join(sorted(name.lower() for name in known))
            hint = ""
            if name in State.__members__:
                hint = "; for a message in any other state ask with `queue view ID`"
            raise BadUsage(f"--status {text!r} is not listed: use {listed}{hint}")
    return [known[name] for name in dict.fromkeys(names)] or sorted(LISTED)


def read_message_id(text: str) -> str:
    """A message id, in any case. Raises BadUsage."""
    message_id = text.strip().upper()
    if not _ULID.fullmatch(message_id):
        raise BadUsage(f"{text!r} is no message id: 26 letters and digits, as `queue list` shows them")
    return message_id


def _anything(row: Listed) -> bool:
    return True


async def list_deliveries(
    ledger: Ledger,
    statuses: Sequence[State],
    limit: int,
    matches: Callable[[Listed], bool] = _anything,
) -> tuple[list[Listed], bool]:
    """Up to `limit` that match, whose turn comes first before others, and whether there are more."""
    shards = [
        _all_of(ledger, status, shard, limit + 1, matches)
        for status in statuses
        for shard in range(LISTING_SHARDS)
    ]
    rows = heapq.nsmallest(
        limit + 1,
        (row for rows in await asyncio.gather(*map(_collected, shards)) for row in rows),
        key=lambda row: (row.at, str(row.key)),
    )
    return rows[:limit], len(rows) > limit


async def message_and_deliveries(
    ledger: Ledger, message_id: str
) -> tuple[MessageRecord | None, Sequence[DeliveryRecord]]:
    """Raises ControlError when the ledger knows neither."""
    message, deliveries = await asyncio.gather(ledger.message(message_id), ledger.deliveries(message_id))
    if message is None and not deliveries:
        raise ControlError(
            f"the ledger knows no message {message_id}",
            "it may have been accepted a moment ago, or have been settled and forgotten",
        )
    return message, deliveries


def read_depths(target: Target) -> list[Depth]:
    """Live queues in the order of a message's way, then the dead-letter queues. Raises ControlError."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.session.Session().client("sqs", **target.client_arguments)  # type: ignore[call-overload]
        depths = []
        for (queue, is_dead), url in sorted(target.queue_urls().items(), key=lambda entry: entry[0][1]):
            names = ["", "NotVisible", "Delayed"]
            attributes = client.get_queue_attributes(
                QueueUrl=url, AttributeNames=[f"ApproximateNumberOfMessages{name}" for name in names]
            )["Attributes"]
            counts = [int(attributes[f"ApproximateNumberOfMessages{name}"]) for name in names]
            depths.append(Depth(queue, is_dead, *counts))
    except (BotoCoreError, ClientError) as error:
        raise ControlError(f"the queues of {target.description} do not answer: {error}") from error
    return depths


async def _all_of(
    ledger: Ledger, status: State, shard: int, limit: int, matches: Callable[[Listed], bool]
) -> AsyncIterator[Listed]:
    after = None
    while limit > 0:
        rows, after = await ledger.listed(status, shard, limit=PAGE, after=after)
        for row in filter(matches, rows):
            yield row
            limit -= 1
        if after is None:
            return


async def _collected(rows: AsyncIterator[Listed]) -> list[Listed]:
    return [row async for row in rows]
