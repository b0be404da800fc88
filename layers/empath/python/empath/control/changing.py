"""A change of the control table, with its lines in the audit trail around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from empath.control.target import Target
from empath.domain.redaction import RedactedField
from empath.pipeline.operator_log import Entry

P = TypeVar("P")
T = TypeVar("T")


def change(
    target: Target,
    action: str,
    what: str,
    ports: Callable[[], AbstractAsyncContextManager[P]],
    work: Callable[[P, Entry], Awaitable[T]],
    *,
    field: RedactedField | None = None,
) -> T:
    """Do `work` on ports of `target`, told as `action` on `what` (which `field` may leave out).

    Raises what they raise; AuditTrouble where the trail cannot be written, before anything is changed.
    """

    async def run() -> T:
        async with target.operator_log() as log, ports() as port, log.entry(action, what, field) as entry:
            return await work(port, entry)

    return asyncio.run(run())
