"""The gates of sites in the `control` table, each in one small item.

    pk                        what
    site#<site>               `tat`, `line_high`.. (microseconds), and `circuit` with its `version`
    site#<site>#<shard>       `tat` and lines of a further shard of a hot site
    site#<site>#connection#<n>  who has connection number n, `owner` and `until`
    circuits                  `sites`: the names of those whose circuit is not closed

A reservation adds to `tat` where the site is busy (`tat` ahead of now: an addition that holds whoever
else adds), and sets it where it is idle; places in a line likewise. Which of the two to try first is known
from last time, and what a condition refused comes back with the item as it is. A circuit is read, changed
and written back on condition of its version. A circuit's name is entered before it opens and taken out
after it closed, so whoever dies in between leaves a name too many, never one too few.

`expires_at` lets an item go that nobody has touched for longer than any message lives.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from empath.aws.attributes import Item, decode, encode
from empath.aws.errors import CONDITION_FAILED, code_of, item_of, trouble
from empath.aws.expressions import instant, text
from empath.domain.circuit import CLOSED, Circuit, Probe
from empath.domain.errors import ControlTrouble
from empath.domain.gate_policy import MAX_SHARDS
from empath.domain.instant import format_instant, parse_instant
from empath.domain.line import ORDER, Ask, Book, Turn, latest_tat, places_from, slots_before
from empath.domain.slots import from_micros, to_micros
from empath.ports.clock import Clock
from empath.ports.gates import Change

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

KEPT_FOR = timedelta(days=31)
"""Longer than the longest expiry of a message (30 days): no slot is forgotten while somebody waits for it."""

RESERVE_TRIES = 24
"""Each that fails is another worker's that succeeded, and slots within reach are few: then there are places,
which are an addition that does not fail."""
CHANGE_TRIES = 8
TAKE_TRIES = 3
"""Of other numbers, once the first one and a look at all of them were in vain."""

MAX_KNOWN = 10_000
BATCH = 100  # BatchGetItem's own limit
BATCH_TRIES = 5

DIRECTORY: Item = {"pk": {"S": "circuits"}}


class DynamoGates:
    def __init__(self, client: DynamoDBClient, table: str, *, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._books: OrderedDict[str, Book] = OrderedDict()
        """Items as they were when last something was heard of them."""

    async def take_turns(self, site: str, ask: Ask, *, shard: int = 0) -> Sequence[Turn]:
        pk = f"site#{site}#{shard}" if shard else f"site#{site}"
        taken: list[Turn] = []
        for _ in range(RESERVE_TRIES):
            book = self._books.get(pk, Book())
            if count := book.room_for(ask):
                turns = await self._take_slots(pk, book, ask, count)
            else:
                turns = await self._take_places(pk, book, ask)
            taken += turns
            ask = replace(ask, count=ask.count - len(turns))
            if not ask.count:
                return taken
        raise ControlTrouble(f"reserving a slot of {site}: it changes too quickly")

    async def _take_slots(self, pk: str, book: Book, ask: Ask, count: int) -> Sequence[Turn]:
        """So many slots; none when the item was not as the book has it, which knows better then."""
        step = count * ask.pace.interval
        values: dict[str, Any] = {":arrival": encode(ask.arrival)}
        if (book.tat or 0) > ask.arrival:
            what, condition = "tat = tat + :step", "tat > :arrival AND tat <= :latest"
            values |= {":step": encode(step), ":latest": encode(latest_tat(ask, count))}
        else:
            what, condition = "tat = :tat", "(attribute_not_exists(tat) OR tat <= :arrival)"
            values |= {":tat": encode(ask.arrival + step)}
        if ask.place is None:
            values |= {":horizon": encode(ask.horizon)}
            for line in ask.lines:
                condition += f" AND (attribute_not_exists(line_{line}) OR line_{line} <= :horizon)"
        after = await self._book_in(pk, what, condition, values, now=ask.now)
        return () if after is None or after.tat is None else slots_before(after.tat, ask, count)

    async def _take_places(self, pk: str, book: Book, ask: Ask) -> Sequence[Turn]:
        """Likewise a place for each."""
        line, first, step = f"line_{ask.priority}", book.next_place(ask), ask.count * ask.pace.interval
        values: dict[str, Any] = {":first": encode(first)}
        if book.ends.get(ask.priority, 0) >= first:
            what, condition = f"{line} = {line} + :step", f"{line} >= :first"
            values |= {":step": encode(step)}
        else:
            what, condition = f"{line} = :end", f"attribute_not_exists({line}) OR {line} <= :first"
            values |= {":end": encode(first + step)}
        after = await self._book_in(pk, what, condition, values, now=ask.now)
        return () if after is None else places_from(after.ends[ask.priority] - step, ask, ask.count)

    async def _book_in(
        self, pk: str, what: str, condition: str, values: Mapping[str, Any], *, now: int
    ) -> Book | None:
        """The book after an update; None when its condition does not hold. Either way it is known then."""
        item: Mapping[str, Any] | None
        with trouble(ControlTrouble, f"reserving a slot of {pk}"):
            try:
                answer: Any = await self._client.update_item(
                    TableName=self._table,
                    Key={"pk": {"S": pk}},
                    UpdateExpression=f"SET {what}, expires_at = :expires_at",
                    ConditionExpression=condition,
                    ExpressionAttributeValues={**values, ":expires_at": encode(_expiry(from_micros(now)))},
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
                item, is_done = answer["Attributes"], True
            except ClientError as error:
                if code_of(error) != CONDITION_FAILED:
                    raise
                item, is_done = item_of(error), False
        if item is None:
            # Without an item no condition fails; but not every emulator sends it along.
            item = await self._item(pk)
        book = self._books[pk] = _book(item)
        self._books.move_to_end(pk)
        if len(self._books) > MAX_KNOWN:
            self._books.popitem(last=False)
        return book if is_done else None

    async def forget_lines(self, site: str) -> bool:
        pks = (f"site#{site}#{shard}" if shard else f"site#{site}" for shard in range(MAX_SHARDS))
        lines = ", ".join(f"line_{line}" for line in ORDER)

        async def forget(pk: str) -> bool:
            answer = await self._conditional(
                "update_item",
                "forgetting the lines",
                pk,
                UpdateExpression=f"REMOVE {lines}",
                ConditionExpression=" OR ".join(f"line_{line} > :now" for line in ORDER),
                ExpressionAttributeValues={":now": encode(to_micros(self._clock.now()))},
            )
            return answer is not None

        return any(await asyncio.gather(*map(forget, pks)))

    async def circuit(self, site: str) -> Circuit:
        return _circuit(await self._item(f"site#{site}"))

    async def change_circuit(self, site: str, change: Change) -> Circuit:
        pk = f"site#{site}"
        is_entered = False
        for _ in range(CHANGE_TRIES):
            item = await self._item(pk)
            before = _circuit(item)
            after = change(before)
            if after == before:
                return before
            if before.is_closed and not after.is_closed and not is_entered:
                await self._enter(site)
                is_entered = True
            version = decode(item.get("version", {"N": "0"}))
            answer = await self._conditional(
                "update_item",
                "changing a circuit",
                pk,
                UpdateExpression="SET circuit = :circuit, version = :next, expires_at = :expires_at",
                ConditionExpression="version = :version" if version else "attribute_not_exists(version)",
                ExpressionAttributeValues={
                    ":circuit": encode(_words(after)),
                    ":next": encode(version + 1),
                    ":expires_at": encode(_expiry(self._clock.now())),
                }
                | ({":version": encode(version)} if version else {}),
            )
            if answer is not None:
                if after.is_closed and not before.is_closed:
                    await self._strike_out(site)
                return after
        raise ControlTrouble(f"changing the circuit of {site}: it changes too quickly")

    async def troubled(self) -> frozenset[str]:
        return _names(await self._item(DIRECTORY["pk"]["S"]))

    async def circuits(self) -> Mapping[str, Circuit]:
        names = sorted(await self.troubled())
        found = {
            item["pk"]["S"].removeprefix("site#"): _circuit(item)
            for item in await self._items([f"site#{name}" for name in names])
        }
        return {name: found[name] for name in names if name in found and not found[name].is_closed}

    async def _enter(self, site: str) -> None:
        await self._change_directory("ADD", site)

    async def _strike_out(self, site: str) -> None:
        await self._change_directory("DELETE", site)
        # Somebody may have opened it again, and entered the name that was just taken out.
        if not (await self.circuit(site)).is_closed:
            await self._enter(site)

    async def _change_directory(self, verb: str, site: str) -> None:
        with trouble(ControlTrouble, "changing the list of circuits"):
            await self._client.update_item(
                TableName=self._table,
                Key=DIRECTORY,
                UpdateExpression=f"{verb} sites :site",
                ExpressionAttributeValues={":site": {"SS": [site]}},
            )

    async def take_connection(
        self, site: str, *, limit: int, owner: str, now: datetime, until: datetime
    ) -> int | None:
        first = zlib.crc32(owner.encode()) % limit
        if await self._take(site, first, owner, now, until):
            return first
        # One look at all of them costs less than asking one after the other.
        held = {item["pk"]["S"]: item for item in await self._items([_number(site, n) for n in range(limit)])}
        free = [
            number
            for step in range(1, limit)
            if _is_free(held.get(_number(site, number := (first + step) % limit)), now)
        ]
        for number in free[:TAKE_TRIES]:
            if await self._take(site, number, owner, now, until):
                return number
        return None

    async def _take(self, site: str, number: int, owner: str, now: datetime, until: datetime) -> bool:
        # `owner`: the SDK repeats a call whose answer was lost.
        answer = await self._conditional(
            "update_item",
            "taking a connection",
            _number(site, number),
            UpdateExpression="SET #owner = :owner, #until = :until, expires_at = :expires_at",
            ConditionExpression="attribute_not_exists(#owner) OR #until <= :now OR #owner = :owner",
            ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
            ExpressionAttributeValues={
                ":owner": text(owner),
                ":now": instant(now),
                ":until": instant(until),
                ":expires_at": encode(_expiry(until)),
            },
        )
        return answer is not None

    async def release_connection(self, site: str, number: int, *, owner: str) -> None:
        await self._conditional(
            "delete_item",
            "releasing a connection",
            _number(site, number),
            ConditionExpression="#owner = :owner",
            ExpressionAttributeNames={"#owner": "owner"},
            ExpressionAttributeValues={":owner": text(owner)},
        )

    # The table.

    async def _conditional(self, call: str, what: str, pk: str, **parameters: Any) -> Any | None:
        """The answer to a write; None when its condition does not hold."""
        with trouble(ControlTrouble, f"{what} of {pk}"):
            try:
                return await getattr(self._client, call)(
                    TableName=self._table, Key={"pk": {"S": pk}}, **parameters
                )
            except ClientError as error:
                if code_of(error) == CONDITION_FAILED:
                    return None
                raise

    async def _item(self, pk: str) -> dict[str, Any]:
        with trouble(ControlTrouble, f"reading {pk}"):
            answer = await self._client.get_item(
                TableName=self._table, Key={"pk": {"S": pk}}, ConsistentRead=True
            )
        return dict(answer.get("Item") or {})

    async def _items(self, pks: Sequence[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for first in range(0, len(pks), BATCH):
            keys = [{"pk": {"S": pk}} for pk in pks[first : first + BATCH]]
            wanted: Any = {self._table: {"Keys": keys, "ConsistentRead": True}}
            for attempt in range(BATCH_TRIES):
                await self._clock.sleep(0.05 * 2**attempt if attempt else 0)
                with trouble(ControlTrouble, "reading sites"):
                    answer = await self._client.batch_get_item(RequestItems=wanted)
                found += answer["Responses"].get(self._table, [])
                wanted = answer.get("UnprocessedKeys")
                if not wanted:
                    break
            else:
                raise ControlTrouble(f"reading sites: parts were left out {BATCH_TRIES} times over")
        return found


def _number(site: str, number: int) -> str:
    return f"site#{site}#connection#{number}"


def _is_free(item: Mapping[str, Any] | None, now: datetime) -> bool:
    return item is None or item["until"]["S"] <= format_instant(now)


def _book(item: Mapping[str, Any]) -> Book:
    """Of an item as DynamoDB has it."""
    ends = {line: int(decode(item[f"line_{line}"])) for line in ORDER if f"line_{line}" in item}
    return Book(int(decode(item["tat"])) if "tat" in item else None, ends)


def _expiry(now: datetime) -> int:
    return math.ceil((now + KEPT_FOR).timestamp())


def _names(item: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(item["sites"]["SS"]) if "sites" in item else frozenset()


def _words(circuit: Circuit) -> dict[str, Any]:
    words: dict[str, Any] = {
        "failures": [format_instant(at) for at in circuit.failures],
        "open_until": circuit.open_until and format_instant(circuit.open_until),
        "opened_at": circuit.opened_at and format_instant(circuit.opened_at),
        "openings": circuit.openings or None,
        "probe": circuit.probe
        and {"owner": circuit.probe.owner, "until": format_instant(circuit.probe.until)},
        "cause": circuit.cause,
    }
    return {name: value for name, value in words.items() if value}


def _circuit(item: Mapping[str, Any]) -> Circuit:
    """Raises ControlTrouble for a circuit that this release cannot read."""
    if "circuit" not in item:
        return CLOSED
    try:
        words = decode(item["circuit"])
        probe = words.get("probe")
        return Circuit(
            failures=tuple(map(parse_instant, words.get("failures", ()))),
            open_until=_instant(words.get("open_until")),
            opened_at=_instant(words.get("opened_at")),
            openings=int(words.get("openings", 0)),
            probe=probe and Probe(probe["owner"], parse_instant(probe["until"])),
            cause=str(words.get("cause", "")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ControlTrouble(
            f"{item['pk']['S']} holds no circuit: {type(error).__name__}: {error}"
        ) from error


def _instant(value: str | None) -> datetime | None:
    return None if value is None else parse_instant(value)
