"""The `listing` index as a reader of DynamoDB's global secondary indexes meets it: late.

Changes arrive in the order of their key, each after a lag of its own; a page shows what has arrived. Only
deferred deliveries are kept: nobody but an operator reads the other lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from empath.domain.delivery_state import State
from empath.domain.instant import format_instant
from empath.domain.records import DeliveryRecord
from empath.ports import Listed
from empath.ports.ledger import listing_shard
from empath.testing.clock import START
from empath.testing.simulation.loop import SECOND, SimulationLoop

Position = tuple[str, str, str]

HORIZON = 900 * SECOND
"""How far ahead of its time the clock function looks for a row, and how long after it a job is lost."""

MARGIN = 20 * SECOND
"""Clocks differ; a tick that comes too early finds nothing and does no harm."""


class LaggingListing:
    def __init__(self, loop: SimulationLoop, changed: Callable[[], None]) -> None:
        self._loop = loop
        self._changed = changed
        self._rows: dict[str, Listed] = {}
        self._of_shard: Counter[int] = Counter()
        self._arrival: dict[str, int] = {}

    def follow(self, new: DeliveryRecord, lag: int) -> None:
        """A delivery changed; the index will know after `lag`, and after all it is yet to hear of it."""
        key = f"{new.message_id}/{new.delivery}"
        row = Listed.of(new) if new.status is State.DEFERRED else None
        if row is None and key not in self._arrival:
            return
        at = self._arrival[key] = max(self._loop.now + lag, self._arrival.get(key, 0))
        self._loop.at(at, lambda: self._arrive(key, row))

    def _arrive(self, key: str, row: Listed | None) -> None:
        known = self._rows.pop(key, None)
        if row is None and known is None:
            return
        shard = listing_shard(key.partition("/")[0])
        self._of_shard[shard] += (row is not None) - (known is not None)
        if row is not None:
            self._rows[key] = row
        self._changed()

    def is_empty(self, shard: int) -> bool:
        return not self._of_shard[shard]

    def page(
        self,
        status: State,
        shard: int,
        *,
        before: datetime | None,
        limit: int,
        after: Mapping[str, str] | None,
    ) -> tuple[Sequence[Listed], Mapping[str, str] | None]:
        start: Position = (after["at"], after["pk"], after["sk"]) if after is not None else ("", "", "")
        rows = sorted(
            ((_position(row), row) for row in self._rows.values() if _is_in(row, status, shard, before)),
            key=lambda found: found[0],
        )
        rows = [found for found in rows if found[0] > start]
        page, rest = rows[:limit], rows[limit:]
        token = dict(zip(("at", "pk", "sk"), page[-1][0], strict=True)) if rest else None
        return [row for _, row in page], token

    def next_due(self) -> int | None:
        """When the clock function would first find something to do here; None: never, as things are."""
        return min((_due(row) for row in self._rows.values()), default=None)


def _is_in(row: Listed, status: State, shard: int, before: datetime | None) -> bool:
    return (
        row.status is status
        and (before is None or row.at <= before)
        and listing_shard(row.key.message_id) == shard
    )


def _position(row: Listed) -> Position:
    return format_instant(row.at), row.key.message_id, row.key.delivery


def _due(row: Listed) -> int:
    near = (row.at - START) // timedelta(microseconds=1) - HORIZON
    if row.job_at is None:
        return near - MARGIN
    lost = (row.job_at - START) // timedelta(microseconds=1) + HORIZON
    return max(near, lost) - MARGIN
