"""Users in the `control` table: items `user#<name>`, and a directory of their names in items `users#<shard>`.

    pk            what
    user#<name>   a User, attribute by attribute; what is None is left out
    users#<n>     `names`: the names of the users of one shard

The table has no index, and beside the users it holds what destinations and counters need, so a scan for
users would read it all. The name is entered first and the user written second: whoever dies in between
leaves a name without a user, which nobody sees.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from empath.aws.attributes import Item, decode_item, encode_item
from empath.aws.errors import CONDITION_FAILED, code_of, trouble
from empath.aws.expressions import EXISTS, IS_NEW, Write
from empath.domain.errors import ControlTrouble, InvalidUser, UserConflict
from empath.domain.user import User, read_user
from empath.ports.clock import Clock
from empath.ports.metrics import Metrics

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

SCHEMA = 1

FRESH_FOR = timedelta(seconds=30)
"""How long a user is not read again; the longest that a revocation needs to take effect."""

MAX_KNOWN = 10_000
"""Names remembered at a time, those that nobody has among them; some 10 MB at worst."""

DIRECTORY_SHARDS = 8
"""An item holds 400 KB: some 10,000 long names each."""

BATCH = 100  # BatchGetItem's own limit
BATCH_TRIES = 5

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    user: User | None = None
    read_at: datetime | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class DynamoUsers:
    def __init__(
        self, client: DynamoDBClient, table: str, *, clock: Clock, metrics: Metrics | None = None
    ) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._metrics = metrics
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def user(self, name: str) -> User | None:
        known = self._known.setdefault(name, _Known())
        self._known.move_to_end(name)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        async with known.reading:
            now = self._clock.now()
            if known.read_at is None or now - known.read_at >= FRESH_FOR:
                known.user, known.read_at = await self._read(name), now
            return known.user

    async def put_user(self, user: User, *, replacing: User | None = None) -> None:
        if replacing is not None and replacing.name != user.name:
            raise ValueError("a user keeps its name")
        request = _condition(replacing).request()
        with trouble(ControlTrouble, "writing a user"):
            await self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": f"users#{_shard(user.name)}"}},
                UpdateExpression="ADD #names :name",
                ExpressionAttributeNames={"#names": "names"},
                ExpressionAttributeValues={":name": {"SS": [user.name]}},
            )
            try:
                await self._client.put_item(TableName=self._table, Item=_item(user), **request)
            except ClientError as error:
                if code_of(error) != CONDITION_FAILED:
                    raise
                # The SDK repeats a call whose answer was lost: what we wrote ourselves is no conflict.
                if await self._read(user.name) != user:
                    fault = "is there already" if replacing is None else "was changed by somebody else"
                    raise UserConflict(f"user {user.name} {fault}") from error
        self._known.pop(user.name, None)

    async def users(self) -> Sequence[User]:
        directories = [{"pk": {"S": f"users#{shard}"}} for shard in range(DIRECTORY_SHARDS)]
        names = {name for item in await self._items(directories) for name in decode_item(item)["names"]}
        keys = [_key(name) for name in sorted(names)]
        batches = [keys[first : first + BATCH] for first in range(0, len(keys), BATCH)]
        users = [self._user(item) for batch in batches for item in await self._items(batch)]
        return sorted(users, key=lambda user: user.name)

    async def _read(self, name: str) -> User | None:
        with trouble(ControlTrouble, "reading a user"):
            answer = await self._client.get_item(TableName=self._table, Key=_key(name), ConsistentRead=True)
        item = answer.get("Item")
        return self._user(item) if item else None

    def _user(self, item: Mapping[str, Any]) -> User:
        try:
            return _user(item)
        except InvalidUser as error:
            key = item["pk"]["S"]
            # Somebody wrote it by hand. Nobody is let in by guesses about what it says.
            logger.warning("an invalid user is nobody's", extra={"item": key, "fault": str(error)})
            if self._metrics is not None:
                self._metrics.count("invalid_user")
            raise ControlTrouble(f"the control table's item {key} is no user: {error}") from error

    async def _items(self, keys: Sequence[Item]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        wanted: Any = {self._table: {"Keys": list(keys), "ConsistentRead": True}}
        for attempt in range(BATCH_TRIES):
            await self._clock.sleep(0.05 * 2**attempt if attempt else 0)
            with trouble(ControlTrouble, "reading users"):
                answer = await self._client.batch_get_item(RequestItems=wanted)
            found += answer["Responses"].get(self._table, [])
            wanted = answer.get("UnprocessedKeys")
            if not wanted:
                return found
        raise ControlTrouble(f"reading users: parts were left out {BATCH_TRIES} times over")


def _key(name: str) -> Item:
    return {"pk": {"S": f"user#{name}"}}


def _shard(name: str) -> int:
    return zlib.crc32(name.encode()) % DIRECTORY_SHARDS


def _words(user: User) -> dict[str, Any]:
    """A user's attributes, without those that are None; the name is in the key."""
    return user.model_dump(exclude={"name"}, exclude_none=True)


def _item(user: User) -> Item:
    return _key(user.name) | encode_item({"schema": SCHEMA, **_words(user)})


def _user(item: Mapping[str, Any]) -> User:
    try:
        words = decode_item(item)
    except ValueError as error:
        raise InvalidUser(str(error)) from error
    schema, name = words.pop("schema", SCHEMA), words.pop("pk").removeprefix("user#")
    if schema != SCHEMA:
        raise InvalidUser(f"schema: {schema!r} where this release reads {SCHEMA}")
    return read_user({**words, "name": name})


def _condition(replacing: User | None) -> Write:
    """That there is no such user; or the one to replace, attribute by attribute as it was read."""
    if replacing is None:
        return Write(conditions=[IS_NEW])
    write = Write(conditions=[EXISTS])
    words = _words(replacing)
    for name, model_field in User.model_fields.items():
        missing, equal = f"attribute_not_exists(#{name})", f"#{name} = :{name}"
        if name == "name":
            continue
        if name not in words:
            write.conditions.append(missing)
            continue
        write.values |= encode_item({f":{name}": words[name]})
        # Items written by hand go without what is the default anyway.
        is_default = words[name] == model_field.default
        write.conditions.append(f"({missing} OR {equal})" if is_default else equal)
    return write
