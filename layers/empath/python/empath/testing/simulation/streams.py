"""The ledger's stream of a run, and the journal that works it off.

What DynamoDB and its event source mapping do is done here: the changes of a message in order, gathered for a
time, a batch that comes again until it is done with, in halves after a failure. A journal that stands still
beyond its time is given up, its batch is another one's, and it may go on later all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from empath.domain.errors import EmpathError, Trouble
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.pipeline.changes import Record, StreamChange
from empath.pipeline.chronicle import Chronicle
from empath.ports.ledger import listing_shard
from empath.testing.clock import START
from empath.testing.simulation.loop import SECOND
from empath.testing.simulation.process import SCOPE

if TYPE_CHECKING:
    from empath.testing.simulation.workers import Workers
    from empath.testing.simulation.world import World

SHARDS = 2


class Streams:
    def __init__(self, world: World, workers: Workers, ports: Any) -> None:
        self._world, self._workers = world, workers
        self._loop, self._setup = world.loop, world.plan.setup
        self._chronicle = Chronicle.over(ports)
        self._shards: list[list[StreamChange]] = [[] for _ in range(SHARDS)]
        self._reading: set[int] = set()
        self._changes = 0

    def changed(self, old: Record | None, new: Record) -> None:
        """A change of the ledger; the changes of a message stay in order."""
        self._changes += 1
        at = START + timedelta(seconds=self._loop.now // SECOND)
        shard = listing_shard(new.message_id) % SHARDS
        self._shards[shard].append(StreamChange(f"c{self._changes}", at, old, new))
        if shard not in self._reading:
            self._reading.add(shard)
            self._gather(shard)

    def _gather(self, shard: int) -> None:
        moment = int(self._workers.draw(f"stream {shard}") * self._setup.stream_window)
        self._loop.after(moment, lambda: self._read(shard, self._setup.stream_batch))

    @property
    def are_read(self) -> bool:
        return not any(self._shards)

    def _read(self, shard: int, limit: int) -> None:
        """Give the journal the next batch of a shard; the shard waits until it is done with."""
        stream = self._shards[shard]
        # Nothing comes of a change that tells nothing: such a batch is skipped.
        while stream and not any(map(_tells, stream[:limit])):
            del stream[:limit]
        if not stream:
            self._reading.discard(shard)
            return
        size = min(limit, len(stream))
        process = self._workers.start(
            "journal", self._setup.timeout, self._take(shard, stream[:size]), f"stream {shard}"
        )

        def look() -> None:
            if not process.is_done:
                self._loop.after(SECOND, lambda: self._read(shard, max(1, size // 2)))
                return
            again = self._world.faults.once("replay", f"stream {shard}", self._loop.now)
            # Given once more from the middle, as after a failure that came too late to matter.
            del stream[: size if again is None else int(size * again.amount)]
            self._gather(shard)

        once = _Once(look)
        process.tasks[0].add_done_callback(lambda _: once())
        process.at_death.append(once)
        process.at_overtime.append(once)

    async def _take(self, shard: int, changes: Sequence[StreamChange]) -> None:
        process = SCOPE.get().process
        try:
            await self._chronicle.take(changes)
        except Trouble:
            return
        except EmpathError as error:
            self._world.invariants.broken("errors", f"stream {shard}: {error!r}")
            return
        process.is_done = True


class _Once:
    """A callback that does its work at its first call."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._done = False

    def __call__(self) -> None:
        if not self._done:
            self._done = True
            self._work()


def _tells(change: StreamChange) -> bool:
    """Whether a change may be worth a line, an event or an end."""
    old, new = change.old, change.new
    if not isinstance(new, DeliveryRecord):
        return isinstance(new, MessageRecord) and old is None
    if not isinstance(old, DeliveryRecord) or old.attempt != new.attempt or old.operation != new.operation:
        return True
    return old.recipients != new.recipients or (new.is_settled and not old.is_settled)
