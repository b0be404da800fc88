"""Runtime policy in the `control` table: items `policy#*`, `policy#<domain>`, `policy#tenant:*` and
`policy#tenant:<name>`, each with a map `settings`."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from empath.aws.attributes import decode_item, encode_item
from empath.aws.errors import trouble
from empath.domain.errors import ControlTrouble, InvalidPolicy
from empath.domain.instant import format_instant
from empath.domain.policy import DomainPolicy, read_policy, read_tenant_policy, unknown_policy
from empath.domain.policy_items import EVERYBODY, PolicyItems
from empath.domain.report_policy import TenantPolicy
from empath.ports.clock import Clock
from empath.ports.metrics import Metrics

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

P = TypeVar("P")

SCHEMA = 1
PREFIX = "policy#"

FRESH_FOR = timedelta(seconds=30)
"""How long an item is not read again; the longest that a change needs to take effect."""

MAX_KNOWN = 10_000
"""Domains, and tenants, remembered at a time, by far most of them without an item: some 5 MB at worst."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    read_at: datetime | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class _Kind(Generic[P]):
    """The items of domains, or those of tenants."""

    prefix: str
    items: PolicyItems[P]
    known: OrderedDict[str, _Known] = field(default_factory=OrderedDict)

    def key(self, name: str) -> str:
        return f"{self.prefix}{name}"


class DynamoControl:
    def __init__(self, client: DynamoDBClient, table: str, *, clock: Clock, metrics: Metrics) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._metrics = metrics
        self._domains = _Kind(PREFIX, PolicyItems(read_policy, when_unknown=unknown_policy))
        self._tenants = _Kind(f"{PREFIX}tenant:", PolicyItems(read_tenant_policy))

    async def policy(self, domain: str) -> DomainPolicy:
        return await self._policy(self._domains, domain.lower())

    async def tenant_policy(self, tenant: str | None) -> TenantPolicy:
        return await self._policy(self._tenants, tenant or EVERYBODY)

    async def set_policy(self, domain: str, settings: Mapping[str, Any]) -> None:
        await self._write(self._domains, domain.lower(), settings)

    async def set_tenant_policy(self, tenant: str, settings: Mapping[str, Any]) -> None:
        await self._write(self._tenants, tenant, settings)

    async def _policy(self, kind: _Kind[P], name: str) -> P:
        # `*` first: a domain's settings are judged together with it.
        for each in dict.fromkeys((EVERYBODY, name)):
            await self._refresh(kind, each)
        return kind.items.policy(name)

    async def _write(self, kind: _Kind[P], name: str, settings: Mapping[str, Any]) -> None:
        if name != EVERYBODY:
            await self._read(kind, EVERYBODY)
        kind.items.check(name, settings)
        try:
            item = encode_item(
                {
                    "pk": kind.key(name),
                    "schema": SCHEMA,
                    "settings": settings,
                    "changed_at": format_instant(self._clock.now()),
                }
            )
        except TypeError as error:
            raise InvalidPolicy(str(error)) from error
        with trouble(ControlTrouble, f"writing {kind.key(name)}"):
            await self._client.put_item(TableName=self._table, Item=item)
        kind.items.take(name, settings)

    async def _refresh(self, kind: _Kind[P], name: str) -> None:
        known = kind.known.setdefault(name, _Known())
        kind.known.move_to_end(name)
        async with known.reading:
            now = self._clock.now()
            if known.read_at is not None and now - known.read_at < FRESH_FOR:
                return
            try:
                await self._read(kind, name)
            except ControlTrouble:
                if known.read_at is None:
                    raise
                logger.warning("policy cannot be read; what is known stays in force", exc_info=True)
                self._metrics.count("stale_policy")
                return
            known.read_at = now
        _forget_the_oldest(kind)

    async def _read(self, kind: _Kind[P], name: str) -> None:
        key = kind.key(name)
        with trouble(ControlTrouble, f"reading {key}"):
            answer = await self._client.get_item(TableName=self._table, Key={"pk": {"S": key}})
        try:
            kind.items.take(name, settings_of(answer.get("Item") or {}))
        except InvalidPolicy as error:
            kind.items.pass_over(name)
            # The error names fields and rules; neither is a secret.
            logger.warning("an invalid policy is ignored", extra={"policy": key, "fault": str(error)})
            self._metrics.count("invalid_policy")


def _forget_the_oldest(kind: _Kind[P]) -> None:
    while len(kind.known) > MAX_KNOWN:
        name = next(name for name in kind.known if name != EVERYBODY)
        del kind.known[name]
        kind.items.forget(name)


def settings_of(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings in an item, empty for no item; InvalidPolicy when they cannot be read."""
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
