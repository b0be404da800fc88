"""A Ledger in memory, under the same conditions as the DynamoDB one.

What would not survive there does not survive here: times are cut to milliseconds on the way in. Every change
is logged the way a table's stream shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from empath.domain.delivery_state import LISTED, OPEN, Event, State, sources
from empath.domain.errors import LeaseLost
from empath.domain.instant import format_instant, whole_milliseconds
from empath.domain.records import (
    MAX_ATTEMPTS_KEPT,
    Attempt,
    DeliveryKey,
    DeliveryRecord,
    Lease,
    MessageRecord,
    ReportState,
)
from empath.ports.ledger import Claimed, ClaimResult, LeaseHeld, Listed, Missing, Stale, listing_shard

Record = MessageRecord | DeliveryRecord
R = TypeVar("R", MessageRecord, DeliveryRecord)

SET_BY_COPY = ("next_attempt_at", "job_at", "forget_at")
"""The times that stages set by copying; all others come through a validated model."""
CLAIMABLE = sources(Event.ACCEPT) | sources(Event.WAKE)
# What a delivery is, as against what has become of it: `record` never writes these.
IDENTITY = ("message_id", "delivery", "domain", "siblings", "received_at", "expires")


class MemoryLedger:
    """Messages and deliveries in dicts; `take_stream_records` is the table's stream."""

    def __init__(self) -> None:
        self._messages: dict[str, MessageRecord] = {}
        self._deliveries: dict[str, dict[str, DeliveryRecord]] = {}
        self._listing: dict[tuple[State, int], set[DeliveryKey]] = {}
        self._stream: list[tuple[Record | None, Record | None]] = []

    # The port.

    async def create(
        self, message: MessageRecord, deliveries: Sequence[DeliveryRecord]
    ) -> Sequence[DeliveryRecord]:
        if message.message_id not in self._messages:
            self._put_message(message)
        for delivery in deliveries:
            if self._get(delivery.key) is None:
                self._put_delivery(delivery)
        return [self._deliveries[delivery.message_id][delivery.delivery] for delivery in deliveries]

    async def claim(
        self, key: DeliveryKey, *, attempt: int, owner: str, now: datetime, until: datetime
    ) -> ClaimResult:
        stored = self._get(key)
        if stored is None:
            return Missing()
        if stored.attempt != attempt or stored.status not in CLAIMABLE:
            return Stale(stored)
        if stored.lease is not None and stored.lease.until > whole_milliseconds(now):
            # A claim whose answer was lost, repeated by its owner, is the same claim.
            if stored.lease.owner == owner:
                return Claimed(stored.begin_attempt())
            return LeaseHeld(stored.lease.until)
        claimed = self._put_delivery(
            stored.model_copy(
                update={
                    "lease": Lease(owner=owner, until=until),
                    "attempts": (*stored.attempts, Attempt(attempt=attempt, started=now, owner=owner)),
                }
            )
        )
        return Claimed(claimed.begin_attempt())

    def _held_by(self, owner: str, key: DeliveryKey) -> DeliveryRecord:
        stored = self._get(key)
        if stored is None or stored.lease is None or stored.lease.owner != owner:
            raise LeaseLost(f"{key}: the claim of {owner} is gone")
        return stored

    async def mark_committing(self, record: DeliveryRecord, *, owner: str, now: datetime) -> None:
        stored = self._held_by(owner, record.key)
        *earlier, current = stored.attempts
        marked = current.model_copy(update={"commits_at": whole_milliseconds(now)})
        self._put_delivery(stored.model_copy(update={"attempts": (*earlier, marked)}))

    async def record(self, record: DeliveryRecord, *, owner: str, owes: Sequence[str] = ()) -> None:
        stored = self._held_by(owner, record.key)
        self._put_delivery(_outcome(stored, record, owes))

    async def record_unclaimed(
        self, record: DeliveryRecord, *, attempt: int, now: datetime, owes: Sequence[str] = ()
    ) -> bool:
        stored = self._get(record.key)
        if stored is None or stored.attempt != attempt or stored.status not in OPEN:
            return False
        if stored.lease is not None and stored.lease.until > whole_milliseconds(now):
            return False
        if _operation_id(stored) != _operation_id(record):
            return False
        self._put_delivery(_outcome(stored, record, owes))
        return True

    async def operate(
        self,
        record: DeliveryRecord,
        *,
        before: DeliveryRecord,
        now: datetime,
        owes: Sequence[str] = (),
    ) -> bool:
        if record.operation is None:
            raise ValueError("what an operator does has a name")
        stored = self._get(record.key)
        if stored is None:
            return False
        if _operation_id(stored) == record.operation.id:
            return True
        if _what_was_read(stored) != _what_was_read(before):
            return False
        if stored.lease is not None and stored.lease.until > whole_milliseconds(now):
            return False
        self._put_delivery(_outcome(stored, record, owes).model_copy(update={"operation": record.operation}))
        return True

    async def mark_queued(self, key: DeliveryKey, *, attempt: int, job_at: datetime) -> None:
        stored = self._get(key)
        if stored is not None and stored.attempt == attempt and stored.status in OPEN:
            self._put_delivery(stored.model_copy(update={"job_at": job_at}))

    async def mark_reported(self, key: DeliveryKey, event: str, state: ReportState = "sent") -> None:
        stored = self._get(key)
        if stored is not None and stored.reports.get(event) == "owed":
            self._put_delivery(stored.model_copy(update={"reports": {**stored.reports, event: state}}))

    async def settle(self, key: DeliveryKey, *, forget_at: datetime | None = None) -> MessageRecord | None:
        stored = self._messages.get(key.message_id)
        if stored is None:
            return None
        return self._put_message(
            stored.model_copy(
                update={
                    "settled": stored.settled | {key.delivery},
                    "forget_at": stored.forget_at or forget_at,
                }
            )
        )

    async def close(self, message_id: str, *, forget_at: datetime) -> None:
        stored = self._messages.get(message_id)
        if stored is not None and stored.forget_at is None:
            self._put_message(stored.model_copy(update={"forget_at": forget_at}))

    async def message(self, message_id: str) -> MessageRecord | None:
        return self._messages.get(message_id)

    async def delivery(self, key: DeliveryKey) -> DeliveryRecord | None:
        return self._get(key)

    async def deliveries(self, message_id: str) -> Sequence[DeliveryRecord]:
        held = self._deliveries.get(message_id, {})
        return [held[delivery] for delivery in sorted(held)]

    async def listed(
        self,
        status: State,
        shard: int,
        *,
        before: datetime | None = None,
        limit: int = 100,
        after: Mapping[str, str] | None = None,
    ) -> tuple[Sequence[Listed], Mapping[str, str] | None]:
        if status not in LISTED:
            raise ValueError(f"the listing index does not show {status}")
        start = (after["at"], after["pk"], after["sk"]) if after is not None else ("", "", "")
        rows = sorted(
            (format_instant(record.listed_at()), record.message_id, record.delivery)
            for record in map(self._get, self._listing.get((status, shard), ()))
            if record is not None
        )
        last = format_instant(before) if before is not None else "\uffff"
        rows = [row for row in rows if start < row and row[0] <= last]
        page, rest = rows[:limit], rows[limit:]
        token = dict(zip(("at", "pk", "sk"), page[-1], strict=True)) if rest else None
        return [Listed.of(self._deliveries[pk][sk]) for _, pk, sk in page], token

    # What tests and the simulator look at.

    def take_stream_records(self) -> list[tuple[Record | None, Record | None]]:
        """Every change since the last call, as (old, new), in order; a write that changes nothing is none."""
        taken, self._stream = self._stream, []
        return taken

    def messages(self) -> list[MessageRecord]:
        """Every message, in the order of creation."""
        return list(self._messages.values())

    def all_deliveries(self) -> list[DeliveryRecord]:
        """Every delivery, in the order of creation."""
        return [record for held in self._deliveries.values() for record in held.values()]

    def forget(self, now: datetime) -> None:
        """Drop what the table's time to live would have dropped by `now`."""
        for message in self.messages():
            if message.forget_at is not None and message.forget_at <= now:
                del self._messages[message.message_id]
                self._stream.append((message, None))
        for delivery in self.all_deliveries():
            if delivery.forget_at is not None and delivery.forget_at <= now:
                del self._deliveries[delivery.message_id][delivery.delivery]
                self._relist(delivery, None)
                self._stream.append((delivery, None))

    def _get(self, key: DeliveryKey) -> DeliveryRecord | None:
        return self._deliveries.get(key.message_id, {}).get(key.delivery)

    def _put_message(self, message: MessageRecord) -> MessageRecord:
        old = self._messages.get(message.message_id)
        new = _stored(message)
        if new != old:
            self._messages[new.message_id] = new
            self._stream.append((old, new))
        return new

    def _put_delivery(self, delivery: DeliveryRecord) -> DeliveryRecord:
        old = self._get(delivery.key)
        new = _stored(delivery)
        if new != old:
            self._deliveries.setdefault(new.message_id, {})[new.delivery] = new
            self._relist(old, new)
            self._stream.append((old, new))
        return new

    def _relist(self, old: DeliveryRecord | None, new: DeliveryRecord | None) -> None:
        if old is not None and old.status in LISTED:
            self._listing[old.status, listing_shard(old.message_id)].discard(old.key)
        if new is not None and new.status in LISTED:
            self._listing.setdefault((new.status, listing_shard(new.message_id)), set()).add(new.key)


def _stored(record: R) -> R:
    """A record as the table would give it back: `model_copy` lets finer times through than its text has."""
    cut = {
        name: whole_milliseconds(value)
        for name in SET_BY_COPY
        if (value := getattr(record, name, None)) is not None and value.microsecond % 1000
    }
    return record.model_copy(update=cut) if cut else record


def _outcome(stored: DeliveryRecord, record: DeliveryRecord, owes: Sequence[str]) -> DeliveryRecord:
    owed: dict[str, ReportState] = dict.fromkeys(owes, "owed")
    return record.model_copy(
        update={
            **{name: getattr(stored, name) for name in IDENTITY},
            "attempts": record.attempts[-MAX_ATTEMPTS_KEPT:],
            "lease": None,
            "operation": stored.operation,
            "reports": {**owed, **stored.reports},
        }
    )


def _operation_id(record: DeliveryRecord) -> str | None:
    return record.operation.id if record.operation is not None else None


def _what_was_read(record: DeliveryRecord) -> tuple[object, ...]:
    due = record.next_attempt_at and whole_milliseconds(record.next_attempt_at)
    return record.attempt, record.status, due, _operation_id(record)
