"""Shared DNS answers and operators' orders in the `control` table.

    pk             what
    dns#<domain>   an MX answer, attribute by attribute; `expires_at` is the table's time to live
    dns-orders     `overrides` {domain: {mx, set_at}}, `cleared` {domain: when}, `all_cleared`

The orders are one item, so that a process reads one item in 30 s and not one per domain; an item holds some
2000 overrides.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from empath.aws.attributes import Item, decode_item, encode_item
from empath.aws.errors import trouble
from empath.domain.errors import ControlTrouble
from empath.domain.instant import format_instant, parse_instant
from empath.ports import Clock, DnsAnswer, DnsOrders, DnsOverride, MailExchanger, Metrics
from empath.ports.dns_cache import ORDERS_KEPT, read_override

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

SCHEMA = 1
PREFIX = "dns#"
ORDERS = "dns-orders"

FRESH_FOR = timedelta(seconds=30)
"""How long the orders are not read again; the longest that a change needs to take effect."""

BATCH = 25  # BatchWriteItem's own limit
BATCH_TRIES = 5

logger = logging.getLogger(__name__)


class DynamoDnsCache:
    def __init__(
        self, client: DynamoDBClient, table: str, *, clock: Clock, metrics: Metrics | None = None
    ) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._metrics = metrics
        self._orders = DnsOrders()
        self._read_at: datetime | None = None
        self._reading = asyncio.Lock()

    async def orders(self) -> DnsOrders:
        if not self._is_fresh:
            async with self._reading:
                if not self._is_fresh:
                    await self._refresh()
        return self._orders

    async def answer(self, domain: str) -> DnsAnswer | None:
        with trouble(ControlTrouble, "reading a DNS answer"):
            answer = await self._client.get_item(TableName=self._table, Key=_key(domain))
        item = answer.get("Item")
        return self._answer(item) if item else None

    async def keep(self, answer: DnsAnswer, *, forget_at: datetime) -> None:
        with trouble(ControlTrouble, "keeping a DNS answer"):
            await self._client.put_item(TableName=self._table, Item=_item(answer, forget_at))

    async def answers(self, limit: int) -> tuple[Sequence[DnsAnswer], bool]:
        found = [answer async for item in self._scan() if (answer := self._answer(item)) is not None]
        found.sort(key=lambda answer: answer.name)
        return found[:limit], len(found) > limit

    async def override(self, domain: str, override: DnsOverride | None) -> None:
        if override is None:
            await self._write("REMOVE overrides.#domain", domain)
        else:
            words = {
                "mx": [str(exchanger) for exchanger in override.exchangers],
                "set_at": format_instant(override.set_at),
            }
            await self._write("SET overrides.#domain = :value", domain, words)

    async def clear(self, domain: str | None, now: datetime) -> int:
        # The order comes first: whoever reads an old answer before it is deleted will forget it again.
        if domain is None:
            await self._make_orders()
            await self._update(
                "SET all_cleared = :now, cleared = :none", {":now": format_instant(now), ":none": {}}
            )
            keys = [item["pk"]["S"] async for item in self._scan(only="pk")]
            await self._delete(keys)
            return len(keys)
        await self._write("SET cleared.#domain = :value", domain, format_instant(now))
        await self._forget_old_clearings(now)
        with trouble(ControlTrouble, "clearing a DNS answer"):
            gone = await self._client.delete_item(
                TableName=self._table, Key=_key(domain), ReturnValues="ALL_OLD"
            )
        return 1 if gone.get("Attributes") else 0

    @property
    def _is_fresh(self) -> bool:
        return self._read_at is not None and self._clock.now() - self._read_at < FRESH_FOR

    async def _refresh(self) -> None:
        try:
            words = await self._read_orders()
        except ControlTrouble:
            if self._read_at is None:
                raise
            logger.warning("DNS overrides cannot be read; what is known stays in force", exc_info=True)
            self._count("stale_dns_orders")
        else:
            self._orders = self._orders_of(words)
        self._read_at = self._clock.now()

    async def _read_orders(self) -> Mapping[str, Any]:
        with trouble(ControlTrouble, "reading DNS overrides"):
            answer = await self._client.get_item(TableName=self._table, Key={"pk": {"S": ORDERS}})
        try:
            return decode_item(answer.get("Item") or {})
        except ValueError as error:
            raise ControlTrouble(f"the control table's item {ORDERS} is not ours: {error}") from error

    def _orders_of(self, words: Mapping[str, Any]) -> DnsOrders:
        overrides: dict[str, DnsOverride] = {}
        for domain, entry in _entries(words, "overrides"):
            try:
                overrides[domain] = read_override(entry["mx"], parse_instant(entry["set_at"]))
            except (KeyError, TypeError, ValueError) as error:
                self._complain(f"the override of {domain}", error)
                if domain in self._orders.overrides:
                    overrides[domain] = self._orders.overrides[domain]
        cleared: dict[str, datetime] = {}
        for domain, moment in _entries(words, "cleared"):
            try:
                cleared[domain] = parse_instant(moment)
            except (TypeError, ValueError) as error:
                self._complain(f"the clearing of {domain}", error)
        all_cleared = words.get("all_cleared")
        try:
            return DnsOrders(overrides, cleared, parse_instant(all_cleared) if all_cleared else None)
        except (TypeError, ValueError) as error:
            self._complain("the clearing of everything", error)
            return DnsOrders(overrides, cleared, self._orders.all_cleared)

    async def _write(self, change: str, domain: str, value: object = None) -> None:
        await self._make_orders()
        await self._update(change, {} if value is None else {":value": value}, {"#domain": domain})

    async def _make_orders(self) -> None:
        """The item with its maps: an update reaches into none that is not there."""
        await self._update(
            "SET overrides = if_not_exists(overrides, :none), cleared = if_not_exists(cleared, :none), "
            "#schema = :schema",
            {":none": {}, ":schema": SCHEMA},
            {"#schema": "schema"},
        )

    async def _forget_old_clearings(self, now: datetime) -> None:
        words = await self._read_orders()
        limit = format_instant(now - ORDERS_KEPT)
        old = [domain for domain, moment in _entries(words, "cleared") if str(moment) < limit][:BATCH]
        if old:
            names = {f"#d{number}": domain for number, domain in enumerate(old)}
            await self._update("REMOVE " + ", ".join(f"cleared.{name}" for name in names), {}, names)

    async def _update(
        self, change: str, values: Mapping[str, object], names: Mapping[str, str] | None = None
    ) -> None:
        request: dict[str, Any] = {}
        if values:
            request["ExpressionAttributeValues"] = encode_item(values)
        if names:
            request["ExpressionAttributeNames"] = names
        with trouble(ControlTrouble, "writing DNS orders"):
            await self._client.update_item(
                TableName=self._table, Key={"pk": {"S": ORDERS}}, UpdateExpression=change, **request
            )
        self._read_at = None

    async def _scan(self, *, only: str | None = None) -> AsyncIterator[Mapping[str, Any]]:
        """The items of all answers. The table has no index: a person who asks can wait."""
        request: dict[str, Any] = {
            "FilterExpression": "begins_with(pk, :prefix)",
            "ExpressionAttributeValues": {":prefix": {"S": PREFIX}},
        }
        if only is not None:
            request["ProjectionExpression"] = only
        while True:
            with trouble(ControlTrouble, "reading DNS answers"):
                page = await self._client.scan(TableName=self._table, **request)
            for item in page["Items"]:
                yield item
            if not page.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def _delete(self, keys: Sequence[str]) -> None:
        for first in range(0, len(keys), BATCH):
            deletes = [{"DeleteRequest": {"Key": {"pk": {"S": key}}}} for key in keys[first : first + BATCH]]
            wanted: Any = {self._table: deletes}
            for attempt in range(BATCH_TRIES):
                await self._clock.sleep(0.05 * 2**attempt if attempt else 0)
                with trouble(ControlTrouble, "clearing DNS answers"):
                    answer = await self._client.batch_write_item(RequestItems=wanted)
                wanted = answer.get("UnprocessedItems")
                if not wanted:
                    break
            else:
                raise ControlTrouble(f"clearing DNS answers: some were left out {BATCH_TRIES} times over")

    def _answer(self, item: Mapping[str, Any]) -> DnsAnswer | None:
        """The answer in an item; one that cannot be read is none, since DNS can be asked again."""
        try:
            return _answer_of(decode_item(item))
        except (KeyError, TypeError, ValueError) as error:
            self._complain(f"item {item.get('pk', {}).get('S', '')}", error)
            return None

    def _complain(self, what: str, error: Exception) -> None:
        logger.warning("invalid DNS words are ignored", extra={"item": what, "fault": str(error)})
        self._count("invalid_dns_item")

    def _count(self, name: str) -> None:
        if self._metrics is not None:
            self._metrics.count(name)


def _key(domain: str) -> Item:
    return {"pk": {"S": f"{PREFIX}{domain}"}}


def _item(answer: DnsAnswer, forget_at: datetime) -> Item:
    return _key(answer.name) | encode_item(
        {
            "schema": SCHEMA,
            "exists": answer.exists,
            "canonical": answer.canonical,
            "mx": answer.records,
            "authenticated": answer.authenticated,
            "asked_at": format_instant(answer.asked_at),
            "fresh_until": format_instant(answer.fresh_until),
            "expires_at": math.ceil(forget_at.timestamp()),
        }
    )


def _answer_of(words: Mapping[str, Any]) -> DnsAnswer:
    if words["schema"] != SCHEMA:
        raise ValueError(f"schema: {words['schema']!r} where this release reads {SCHEMA}")
    return DnsAnswer(
        name=words["pk"].removeprefix(PREFIX),
        rdtype="MX",
        exists=bool(words["exists"]),
        canonical=str(words["canonical"]),
        records=tuple(str(MailExchanger.parse(record)) for record in words["mx"]),
        authenticated=bool(words["authenticated"]),
        asked_at=parse_instant(words["asked_at"]),
        fresh_until=parse_instant(words["fresh_until"]),
    )


def _entries(words: Mapping[str, Any], name: str) -> Sequence[tuple[str, Any]]:
    entries = words.get(name)
    return list(entries.items()) if isinstance(entries, Mapping) else []
