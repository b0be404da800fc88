"""The suppression list in the `control` table: items `suppress#<address>`."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from empath.aws.attributes import Item, decode_item, encode_item
from empath.aws.batch_get import batch_get
from empath.aws.errors import CONDITION_FAILED, code_of, trouble
from empath.domain.errors import ControlTrouble
from empath.domain.suppression import Suppression, listed_as

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

SCHEMA = 1
PREFIX = "suppress#"
logger = logging.getLogger(__name__)


class DynamoSuppressions:
    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    async def find(self, addresses: Iterable[str], *, now: datetime) -> Mapping[str, Suppression]:
        given = list(addresses)
        wanted = sorted({listed_as(address) for address in given})
        keys: list[Item] = [{"pk": {"S": f"{PREFIX}{address}"}} for address in wanted]
        items = await batch_get(
            self._client, self._table, keys, ControlTrouble, "reading the suppression list"
        )
        in_force = {entry.address: entry for entry in _read(items) if entry.is_in_force(now)}
        return {address: in_force[key] for address in given if (key := listed_as(address)) in in_force}

    async def add(self, entry: Suppression) -> bool:
        words: dict[str, Any] = entry.model_dump(exclude_none=True)
        words |= {"pk": f"{PREFIX}{entry.address}", "schema": SCHEMA}
        condition = "attribute_not_exists(pk) OR attribute_exists(#until)"
        request: dict[str, Any] = {"ExpressionAttributeNames": {"#until": "until"}}
        if entry.until is not None:
            words["expires_at"] = math.ceil(entry.until.timestamp())
            condition = "attribute_not_exists(pk) OR #until < :until"
            request["ExpressionAttributeValues"] = {":until": {"S": words["until"]}}
        with trouble(ControlTrouble, "suppressing an address"):
            try:
                await self._client.put_item(
                    TableName=self._table, Item=encode_item(words), ConditionExpression=condition, **request
                )
            except ClientError as error:
                if code_of(error) == CONDITION_FAILED:
                    return False
                raise
        return True

    async def remove(self, address: str) -> bool:
        with trouble(ControlTrouble, "taking an address off the suppression list"):
            answer = await self._client.delete_item(
                TableName=self._table,
                Key={"pk": {"S": f"{PREFIX}{listed_as(address)}"}},
                ReturnValues="ALL_OLD",
            )
        return bool(answer.get("Attributes"))

    async def all(self) -> AsyncIterator[Suppression]:
        """Reads the whole table, which has no index: a person who asks can wait."""
        request: dict[str, Any] = {}
        while True:
            with trouble(ControlTrouble, "reading the suppression list"):
                page = await self._client.scan(
                    TableName=self._table,
                    FilterExpression="begins_with(pk, :prefix)",
                    ExpressionAttributeValues={":prefix": {"S": PREFIX}},
                    **request,
                )
            for entry in _read(page["Items"]):
                yield entry
            if not page.get("LastEvaluatedKey"):
                return
            request = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def _read(items: Iterable[Mapping[str, Any]]) -> Iterator[Suppression]:
    """Entries that can be read. One that cannot stops no mail: it is as if it were not there."""
    for item in items:
        try:
            words = decode_item(item)
            if words.pop("schema", None) != SCHEMA:
                raise ValueError(f"not of schema {SCHEMA}")
            yield Suppression.model_validate(words)
        except ValueError as error:
            logger.warning("an unreadable suppression", extra={"item": item["pk"], "fault": str(error)})
