"""Many items of a table in few requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from empath.aws.attributes import Item
from empath.aws.errors import trouble
from empath.domain.errors import Trouble

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

KEYS = 100
"""Of one BatchGetItem, at most."""

PAUSES = (0.05, 0.2, 0.5)
"""Seconds before keys that a BatchGetItem left out are asked for again."""


async def batch_get(
    client: DynamoDBClient,
    table: str,
    keys: Sequence[Item],
    kind: type[Trouble],
    what: str,
    projection: str | None = None,
) -> list[Mapping[str, Any]]:
    """The items that there are of `keys`, in any order, eventually consistent.

    Raises `kind`, which says `what` was tried.
    """
    parts = [keys[start : start + KEYS] for start in range(0, len(keys), KEYS)]
    answers = await asyncio.gather(*(_part(client, table, part, kind, what, projection) for part in parts))
    return [item for answer in answers for item in answer]


async def _part(
    client: DynamoDBClient,
    table: str,
    keys: Sequence[Item],
    kind: type[Trouble],
    what: str,
    projection: str | None,
) -> list[Mapping[str, Any]]:
    projected = {"ProjectionExpression": projection} if projection is not None else {}
    wanted: Any = {table: {"Keys": keys, **projected}}
    found: list[Mapping[str, Any]] = []
    for pause in (*PAUSES, None):
        with trouble(kind, what):
            answer = await client.batch_get_item(RequestItems=wanted)
        found += answer["Responses"].get(table, ())
        wanted = answer.get("UnprocessedKeys")
        if not wanted:
            return found
        if pause is not None:
            await asyncio.sleep(pause)
    raise kind(f"{what}: some keys were left out again and again")
