"""Policy items of the `control` table as an operator sees them: `policy#*`, `policy#<domain>`,
`policy#tenant:<name>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from empath.aws.attributes import decode_item, encode_item
from empath.aws.control import PREFIX, SCHEMA, settings_of
from empath.aws.errors import CONDITION_FAILED, code_of, trouble
from empath.domain.errors import ControlTrouble, InvalidPolicy
from empath.domain.instant import format_instant
from empath.ports.clock import Clock
from empath.ports.policies import PolicyItem

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient


class DynamoPolicies:
    def __init__(self, client: DynamoDBClient, table: str, *, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock

    async def all(self) -> Sequence[PolicyItem]:
        # The table has no index: a person who asks can wait.
        request: dict[str, Any] = {}
        items: list[PolicyItem] = []
        while True:
            with trouble(ControlTrouble, "reading the policies"):
                page = await self._client.scan(
                    TableName=self._table,
                    FilterExpression="begins_with(pk, :prefix)",
                    ExpressionAttributeValues={":prefix": {"S": PREFIX}},
                    ConsistentRead=True,
                    **request,
                )
            items += map(_read, page["Items"])
            if "LastEvaluatedKey" not in page:
                return sorted(items, key=lambda item: item.name)
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def get(self, name: str) -> PolicyItem | None:
        with trouble(ControlTrouble, f"reading {PREFIX}{name}"):
            answer = await self._client.get_item(TableName=self._table, Key=_key(name), ConsistentRead=True)
        return _read(answer["Item"]) if "Item" in answer else None

    async def put(self, name: str, settings: Mapping[str, Any], *, before: PolicyItem | None) -> bool:
        words = {
            "pk": f"{PREFIX}{name}",
            "schema": SCHEMA,
            "settings": settings,
            "changed_at": format_instant(self._clock.now()),
        }
        try:
            item = encode_item(words)
        except TypeError as error:
            raise InvalidPolicy(str(error)) from error
        return await self._write(name, before, lambda request: self._client.put_item(Item=item, **request))

    async def delete(self, before: PolicyItem) -> bool:
        key = _key(before.name)
        return await self._write(
            before.name, before, lambda request: self._client.delete_item(Key=key, **request)
        )

    async def _write(self, name: str, before: PolicyItem | None, write: Any) -> bool:
        request = {"TableName": self._table, **_condition(before)}
        with trouble(ControlTrouble, f"writing {PREFIX}{name}"):
            try:
                await write(request)
            except ClientError as error:
                if code_of(error) == CONDITION_FAILED:
                    return False
                raise
        return True


def _key(name: str) -> Any:
    return {"pk": {"S": f"{PREFIX}{name}"}}


def _condition(before: PolicyItem | None) -> dict[str, Any]:
    """That the item is as it was read: the settings say it, whoever wrote them, and in whatever way."""
    if before is None:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    names = {"#settings": "settings"}
    if before.version is None:
        there = "attribute_exists(pk) AND attribute_not_exists(#settings)"
        return {"ConditionExpression": there, "ExpressionAttributeNames": names}
    return {
        "ConditionExpression": "#settings = :settings",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {":settings": before.version},
    }


def _plain(value: Any) -> Any:
    """Without sets, which only a hand writes, and which JSON does not know."""
    match value:
        case Mapping():
            return {name: _plain(inner) for name, inner in value.items()}
        case frozenset():
            return sorted(value)
        case _:
            return value


def _read(item: Mapping[str, Any]) -> PolicyItem:
    name, version = item["pk"]["S"].removeprefix(PREFIX), item.get("settings")
    try:
        settings, fault = _plain(settings_of(item)), None
    except InvalidPolicy as error:
        settings, fault = None, str(error)
    try:
        changed_at = str(decode_item({"at": item["changed_at"]})["at"]) if "changed_at" in item else None
    except ValueError:
        changed_at = None
    return PolicyItem(name, settings, changed_at, fault, version)
