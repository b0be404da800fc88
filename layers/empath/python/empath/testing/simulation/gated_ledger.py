"""The ledger as simulated workers reach it, and its index, which is late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from empath.domain.delivery_state import State
from empath.domain.errors import LedgerTrouble
from empath.domain.records import DeliveryKey, DeliveryRecord, MessageRecord, ReportState
from empath.ports import Claimed, ClaimResult, Listed
from empath.testing.memory_ledger import MemoryLedger
from empath.testing.simulation.listing import LaggingListing
from empath.testing.simulation.ports import Effect, Gate, T, Watcher
from empath.testing.simulation.process import SCOPE


class GatedLedger:
    def __init__(self, gate: Gate, ledger: MemoryLedger, listing: LaggingListing, watcher: Watcher) -> None:
        self._gate, self._ledger, self._listing, self._watcher = gate, ledger, listing, watcher

    async def _write(
        self, call: str, effect: Effect[T], about: object, partly: Callable[[float], Awaitable[object]] | None
    ) -> T:
        async def watched() -> T:
            result = await effect()
            self._watcher.ledger_changed()
            return result

        return await self._gate.call(call, watched, trouble=LedgerTrouble, partly=partly, about=about)

    async def create(
        self, message: MessageRecord, deliveries: Sequence[DeliveryRecord]
    ) -> Sequence[DeliveryRecord]:
        async def partly(amount: float) -> None:
            await self._ledger.create(message, deliveries[: int(amount * len(deliveries))])
            self._watcher.ledger_changed()

        return await self._write(
            "ledger.create", lambda: self._ledger.create(message, deliveries), len(deliveries), partly
        )

    async def claim(
        self, key: DeliveryKey, *, attempt: int, owner: str, now: datetime, until: datetime
    ) -> ClaimResult:
        async def effect() -> ClaimResult:
            result = await self._ledger.claim(key, attempt=attempt, owner=owner, now=now, until=until)
            if isinstance(result, Claimed):
                SCOPE.get().owner = owner
                self._watcher.claimed(result.record)
            return result

        return await self._write("ledger.claim", effect, f"attempt {attempt} as {owner}", None)

    async def mark_committing(self, record: DeliveryRecord, *, owner: str, now: datetime) -> None:
        await self._write(
            "ledger.mark_committing",
            lambda: self._ledger.mark_committing(record, owner=owner, now=now),
            f"as {owner}",
            None,
        )

    async def record(self, record: DeliveryRecord, *, owner: str, owes: Sequence[str] = ()) -> None:
        about = f"{record.status} as {owner}" if self._gate.history.on else ""
        await self._write(
            "ledger.record", lambda: self._ledger.record(record, owner=owner, owes=owes), about, None
        )

    async def record_unclaimed(
        self, record: DeliveryRecord, *, attempt: int, now: datetime, owes: Sequence[str] = ()
    ) -> bool:
        return await self._write(
            "ledger.record_unclaimed",
            lambda: self._ledger.record_unclaimed(record, attempt=attempt, now=now, owes=owes),
            record.key if self._gate.history.on else "",
            None,
        )

    async def operate(
        self,
        record: DeliveryRecord,
        *,
        before: DeliveryRecord,
        now: datetime,
        owes: Sequence[str] = (),
    ) -> bool:
        return await self._write(
            "ledger.operate",
            lambda: self._ledger.operate(record, before=before, now=now, owes=owes),
            record.key if self._gate.history.on else "",
            None,
        )

    async def mark_queued(self, key: DeliveryKey, *, attempt: int, job_at: datetime) -> None:
        await self._write(
            "ledger.mark_queued",
            lambda: self._ledger.mark_queued(key, attempt=attempt, job_at=job_at),
            f"attempt {attempt}",
            None,
        )

    async def mark_reported(self, key: DeliveryKey, event: str, state: ReportState = "sent") -> None:
        await self._write(
            "ledger.mark_reported",
            lambda: self._ledger.mark_reported(key, event, state),
            f"{event} as {state}",
            None,
        )

    async def settle(self, key: DeliveryKey, *, forget_at: datetime | None = None) -> MessageRecord | None:
        return await self._write(
            "ledger.settle", lambda: self._ledger.settle(key, forget_at=forget_at), key.delivery, None
        )

    async def close(self, message_id: str, *, forget_at: datetime) -> None:
        await self._write(
            "ledger.close", lambda: self._ledger.close(message_id, forget_at=forget_at), "", None
        )

    async def message(self, message_id: str) -> MessageRecord | None:
        return await self._gate.call(
            "ledger.message", lambda: self._ledger.message(message_id), trouble=LedgerTrouble
        )

    async def delivery(self, key: DeliveryKey) -> DeliveryRecord | None:
        return await self._gate.call(
            "ledger.delivery", lambda: self._ledger.delivery(key), trouble=LedgerTrouble
        )

    async def deliveries(self, message_id: str) -> Sequence[DeliveryRecord]:
        return await self._gate.call(
            "ledger.deliveries", lambda: self._ledger.deliveries(message_id), trouble=LedgerTrouble
        )

    async def listed(
        self,
        status: State,
        shard: int,
        *,
        before: datetime | None = None,
        limit: int = 100,
        after: Mapping[str, str] | None = None,
    ) -> tuple[Sequence[Listed], Mapping[str, str] | None]:
        if self._listing.is_empty(shard):
            # The clock looks into eight shards each time: an empty page costs no time and has no faults.
            return [], None

        async def effect() -> tuple[Sequence[Listed], Mapping[str, str] | None]:
            return self._listing.page(status, shard, before=before, limit=limit, after=after)

        return await self._gate.call("ledger.listed", effect, trouble=LedgerTrouble, about=shard)
