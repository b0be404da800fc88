"""Allowances that all tasks share: so many of something in a window of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def window_start(now: datetime, window: timedelta) -> datetime:
    """When the window began that `now` is in: windows are counted from the epoch, the same for everybody."""
    return now - (now - EPOCH) % window


class Quotas(Protocol):
    async def take(self, key: str, wanted: int, *, limit: int, window: timedelta, now: datetime) -> int:
        """How many of `wanted` are granted to `key`, 0 to `wanted`; they are spent with the answer.

        Within a window (`window_start`) never more than `limit` in all are granted to a key, whoever asks;
        an answer that is lost on its way is spent nevertheless. Raises ControlTrouble.
        """
