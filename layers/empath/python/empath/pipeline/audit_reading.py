"""Reading the audit trail: its objects by day, some fetched ahead, and the lines about one message.

A line is given as it was written, whatever release wrote it: what this one does not know stays in it, and
what cannot be read at all is told beside it. Whether the trail is what was written is audit_check's to say.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from empath.domain.audit_chain import PREFIX, Block, UnreadableBlock, day_prefix
from empath.ports import Audit

LINE_SCHEMA = 1

AHEAD = 16
"""Objects on their way at a time; most have some hundred kilobytes, few have megabytes."""


async def keys_of_days(audit: Audit, first: date | None, last: date | None) -> AsyncIterator[str]:
    """The objects that lie under the days from `first` to `last`, both included; None has no bound."""
    # Years, months and days are of fixed width, so a chain's keys come in the order of its blocks.
    if first is None or last is None:
        low = day_prefix(first) if first is not None else ""
        high = day_prefix(last + timedelta(days=1)) if last is not None else None
        async for key in audit.keys(PREFIX):
            if key >= low and (high is None or key < high):
                yield key
        return
    day = first
    while day <= last:
        async for key in audit.keys(day_prefix(day)):
            yield key
        day += timedelta(days=1)


async def objects_of_days(
    audit: Audit, first: date | None, last: date | None
) -> AsyncGenerator[tuple[str, bytes | None], None]:
    """Each object with its content, in order; None for one that is gone since it was listed.

    Raises AuditTrouble.
    """
    coming: deque[tuple[str, asyncio.Task[bytes | None]]] = deque()
    try:
        async for key in keys_of_days(audit, first, last):
            coming.append((key, asyncio.create_task(_get(audit.get(key)))))
            if len(coming) >= AHEAD:
                ready, content = coming.popleft()
                yield ready, await content
        while coming:
            ready, content = coming.popleft()
            yield ready, await content
    finally:
        for _, content in coming:
            content.cancel()
        await asyncio.gather(*(content for _, content in coming), return_exceptions=True)


async def _get(content: Awaitable[bytes | None]) -> bytes | None:
    return await content


@dataclass(slots=True)
class Told:
    """What the trail says of a message."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    """In the order of their times; a line that comes twice is here once."""
    unreadable: list[str] = field(default_factory=list)
    """Objects and lines that could not be read, and why: what is asked for may be among them."""


async def lines_of_message(
    audit: Audit, message_id: str | None, *, first: date | None = None, last: date | None = None
) -> Told:
    """The lines about a message (None: all lines) that lie under these days. Raises AuditTrouble."""
    told, seen = Told(), set[str]()
    async with aclosing(objects_of_days(audit, first, last)) as objects:
        async for key, content in objects:
            try:
                block = Block.decode(content or b"")
            except UnreadableBlock as error:
                gone = "it was listed and is gone" if content is None else str(error)
                told.unreadable.append(f"{key}: this object is no block: {gone}")
                continue
            for number, line in enumerate(block.lines, start=2):
                if message_id is not None and message_id not in line:
                    continue
                try:
                    record = _read(line)
                except ValueError as error:
                    told.unreadable.append(f"{key}:{number}: {error}")
                    continue
                if record["id"] not in seen and message_id in (None, record.get("message_id")):
                    seen.add(record["id"])
                    told.lines.append(record)
    told.lines.sort(key=lambda record: str(record.get("at")))
    return told


def _read(line: str) -> dict[str, Any]:
    """A line with everything that is in it, known or not. ValueError says what is wrong with it."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"this line is no JSON: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise ValueError("this line is no audit record")
    if record.get("v") != LINE_SCHEMA:
        raise ValueError(
            f"a line of version {record.get('v')!r} where this release reads {LINE_SCHEMA}: {line[:1000]}"
        )
    return record
