"""Lifecycle events on an EventBridge bus, ten to a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from empath.aws.errors import trouble
from empath.domain.errors import EventsTrouble
from empath.domain.lifecycle import SOURCE, LifecycleEvent

ENTRIES = 10
"""Of one PutEvents request, at most. Ten of ours are far below its 256 KB."""

AT_ONCE = 8
PAUSES = (0.1, 0.5)
"""Seconds before what the bus refused (throttled, most often) is handed over again."""

logger = logging.getLogger(__name__)


class BridgeEvents:
    def __init__(self, client: Any, bus: str) -> None:
        """`client` is aiobotocore's of the service `events`."""
        self._client = client
        self._bus = bus

    async def publish(self, events: Sequence[LifecycleEvent]) -> None:
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(entries: list[dict[str, Any]]) -> None:
            async with limit:
                await self._put(entries)

        entries = [self._entry(event) for event in events]
        parts = [entries[start : start + ENTRIES] for start in range(0, len(entries), ENTRIES)]
        ends = await asyncio.gather(*map(one, parts), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def _put(self, entries: list[dict[str, Any]]) -> None:
        for pause in (*PAUSES, None):
            with trouble(EventsTrouble, "handing over events"):
                answer = await self._client.put_events(Entries=entries)
            if not answer.get("FailedEntryCount"):
                return
            told = list(zip(entries, answer["Entries"], strict=True))
            entries = [entry for entry, said in told if said.get("ErrorCode")]
            codes = sorted({said["ErrorCode"] for _, said in told if said.get("ErrorCode")})
            if pause is None:
                raise EventsTrouble(f"{len(entries)} events were refused: {', '.join(codes)}")
            logger.info("events were refused and are handed over again", extra={"codes": codes})
            await asyncio.sleep(pause)

    def _entry(self, event: LifecycleEvent) -> dict[str, Any]:
        return {
            "EventBusName": self._bus,
            "Source": SOURCE,
            "DetailType": event.detail_type,
            "Time": event.at,
            "Detail": event.detail(),
            "Resources": [],
        }
