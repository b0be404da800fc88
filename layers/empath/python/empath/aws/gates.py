"""The gates of sites in the `control` table, each in one small item.

    pk                        what
    site#<site>               `tat` (microseconds), and `circuit` with its `version`
    site#<site>#<shard>       `tat` of a further shard of a hot site
    site#<site>#connection#<n>  who has connection number n, `owner` and `until`
    circuits                  `sites`: the names of those whose circuit is not closed

A reservation adds to `tat` where the site is busy (`tat` ahead of now: an addition that holds whoever else
adds), and sets it where it is idle; the caller knows from last time which of the two to try first. A circuit
is read, changed and written back on condition of its version. A circuit's name is entered before it opens and
taken out after it closed, so whoever dies in between leaves a name too many, never one too few.

`expires_at` lets an item go that nobody has touched for longer than any message lives.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from empath.aws.attributes import Item, decode, encode
from empath.aws.errors import CONDITION_FAILED, code_of, trouble
from empath.aws.expressions import instant, text
from empath.domain.circuit import CLOSED, Circuit, Probe
from empath.domain.errors import ControlTrouble
from empath.domain.instant import format_instant, parse_instant
from empath.domain.slots import Pace, from_micros, slots_from, to_micros
from empath.ports.clock import Clock
from empath.ports.gates import Change

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

KEPT_FOR = timedelta(days=31)
"""Longer than the longest expiry of a message (30 days): no slot is forgotten while somebody waits for it."""

RESERVE_TRIES = 6
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
        self._tats: OrderedDict[str, int] = OrderedDict()

    async def reserve(
        self, site: str, count: int, *, pace: Pace, now: datetime, shard: int = 0
    ) -> Sequence[datetime]:
        pk = f"site#{site}#{shard}" if shard else f"site#{site}"
        at, step = to_micros(now), count * pace.interval
        is_busy = self._tats.get(pk, 0) > at
        for _ in range(RESERVE_TRIES):
            tat = await self._move(pk, at, step, is_busy=is_busy, now=now)
            if tat is not None:
                self._remember(pk, tat)
                return [from_micros(slot) for slot in slots_from(tat - step, count, pace=pace, now=at)]
            is_busy = not is_busy
        raise ControlTrouble(f"reserving a slot of {site}: it changes too quickly")

    async def _move(self, pk: str, at: int, step: int, *, is_busy: bool, now: datetime) -> int | None:
        """`tat` after one kind of update; None when the other kind is to be tried."""
        expires_at = {":expires_at": encode(_expiry(now))}
        if is_busy:
            what = {
                "UpdateExpression": "SET tat = tat + :step, expires_at = :expires_at",
                "ConditionExpression": "tat > :at",
                "ExpressionAttributeValues": {":step": encode(step), ":at": encode(at), **expires_at},
            }
        else:
            what = {
                "UpdateExpression": "SET tat = :tat, expires_at = :expires_at",
                "ConditionExpression": "attribute_not_exists(tat) OR tat <= :at",
                "ExpressionAttributeValues": {":tat": encode(at + step), ":at": encode(at), **expires_at},
            }
        answer = await self._conditional(
            "update_item", "reserving a slot", pk, ReturnValues="UPDATED_NEW", **what
        )
        return None if answer is None else int(decode(answer["Attributes"]["tat"]))

    def _remember(self, pk: str, tat: int) -> None:
        self._tats[pk] = tat
        self._tats.move_to_end(pk)
        if len(self._tats) > MAX_KNOWN:
            self._tats.popitem(last=False)

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

    async def renew_connection(
        self, site: str, number: int, *, owner: str, now: datetime, until: datetime
    ) -> bool:
        answer = await self._conditional(
            "update_item",
            "renewing a connection",
            _number(site, number),
            UpdateExpression="SET #until = :until",
            ConditionExpression="#owner = :owner AND #until > :now",
            ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
            ExpressionAttributeValues={":owner": text(owner), ":now": instant(now), ":until": instant(until)},
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
