"""Runtime policy in the `control` table: items `policy#*` and `policy#<domain>` with a map `settings`."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from empath.aws.attributes import decode_item, encode_item
from empath.aws.errors import trouble
from empath.domain.errors import ControlTrouble, InvalidPolicy
from empath.domain.instant import format_instant
from empath.domain.policy import DomainPolicy
from empath.domain.policy_items import EVERY_DOMAIN, PolicyItems
from empath.ports.clock import Clock
from empath.ports.metrics import Metrics

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

SCHEMA = 1

FRESH_FOR = timedelta(seconds=30)
"""How long an item is not read again; the longest that a change needs to take effect."""

MAX_KNOWN = 10_000
"""Domains remembered at a time, by far most of them without an item: some 5 MB at worst."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    read_at: datetime | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class DynamoControl:
    def __init__(self, client: DynamoDBClient, table: str, *, clock: Clock, metrics: Metrics) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._metrics = metrics
        self._items = PolicyItems()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def policy(self, domain: str) -> DomainPolicy:
        domain = domain.lower()
        # `*` first: a domain's settings are judged together with it.
        for name in (EVERY_DOMAIN, domain):
            await self._refresh(name)
        return self._items.policy(domain)

    async def set_policy(self, domain: str, settings: Mapping[str, Any]) -> None:
        domain = domain.lower()
        if domain != EVERY_DOMAIN:
            await self._read(EVERY_DOMAIN)
        self._items.check(domain, settings)
        try:
            item = encode_item(
                {
                    "pk": f"policy#{domain}",
                    "schema": SCHEMA,
                    "settings": settings,
                    "changed_at": format_instant(self._clock.now()),
                }
            )
        except TypeError as error:
            raise InvalidPolicy(str(error)) from error
        with trouble(ControlTrouble, f"writing the policy of {domain}"):
            await self._client.put_item(TableName=self._table, Item=item)
        self._items.take(domain, settings)

    async def _refresh(self, name: str) -> None:
        known = self._known.setdefault(name, _Known())
        self._known.move_to_end(name)
        async with known.reading:
            now = self._clock.now()
            if known.read_at is not None and now - known.read_at < FRESH_FOR:
                return
            try:
                await self._read(name)
            except ControlTrouble:
                if known.read_at is None:
                    raise
                logger.warning("policy cannot be read; what is known stays in force", exc_info=True)
                self._metrics.count("stale_policy")
                return
            known.read_at = now
        self._forget_the_oldest()

    async def _read(self, name: str) -> None:
        with trouble(ControlTrouble, f"reading the policy of {name}"):
            answer = await self._client.get_item(TableName=self._table, Key={"pk": {"S": f"policy#{name}"}})
        try:
            self._items.take(name, _settings(answer.get("Item") or {}))
        except InvalidPolicy as error:
            # The error names fields and rules; neither is a secret.
            logger.warning(
                "an invalid policy is ignored", extra={"policy": f"policy#{name}", "fault": str(error)}
            )
            self._metrics.count("invalid_policy")

    def _forget_the_oldest(self) -> None:
        while len(self._known) > MAX_KNOWN:
            name = next(name for name in self._known if name != EVERY_DOMAIN)
            del self._known[name]
            self._items.forget(name)


def _settings(item: Mapping[str, Any]) -> Mapping[str, Any]:
    if not item:
        return {}
    try:
        words = decode_item(item)
    except ValueError as error:
        raise InvalidPolicy(str(error)) from error
    settings = words.get("settings")
    if not isinstance(settings, Mapping):
        raise InvalidPolicy("settings: not a map")
    if words.get("schema", SCHEMA) != SCHEMA:
        raise InvalidPolicy(f"schema: {words['schema']!r} where this release reads {SCHEMA}")
    return settings
