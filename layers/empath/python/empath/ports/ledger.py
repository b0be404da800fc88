"""The state of every message and delivery, and the only place where it changes.

    create -> claim -> record -> (claim -> record)* -> mark_reported* -> settle

Every write is conditional. Two workers may hold the same job; at most one holds the claim, and a
record is written only under the claim that it belongs to.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from empath.domain.delivery_state import State
from empath.domain.envelope import Priority
from empath.domain.records import DeliveryKey, DeliveryRecord, MessageRecord, ReportState

LISTING_SHARDS = 8


def listing_shard(message_id: str) -> int:
    """The shard of the `listing` index that a message's deliveries are in."""
    return zlib.crc32(message_id.encode()) % LISTING_SHARDS


@dataclass(frozen=True, slots=True)
class Claimed:
    """The delivery is ours until the lease ends; `record` has the lease and the new attempt in it."""

    record: DeliveryRecord


@dataclass(frozen=True, slots=True)
class LeaseHeld:
    """Another worker has it, at most until `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Stale:
    """The ledger has passed the attempt that the job names, or the delivery is final or held."""

    record: DeliveryRecord


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no such delivery."""


ClaimResult = Claimed | LeaseHeld | Stale | Missing


@dataclass(frozen=True, slots=True)
class Listed:
    """One row of the `listing` index; eventually consistent, so a hint and never a decision."""

    key: DeliveryKey
    status: State
    at: datetime
    attempt: int
    job_at: datetime | None
    next_attempt_at: datetime | None
    reason: str | None
    priority: Priority = "normal"
    tenant: str | None = None

    @classmethod
    def of(cls, record: DeliveryRecord) -> Listed:
        """The row that the index shows for a delivery."""
        return cls(
            key=record.key,
            status=record.status,
            at=record.listed_at(),
            attempt=record.attempt,
            job_at=record.job_at,
            next_attempt_at=record.next_attempt_at,
            reason=record.reason,
            priority=record.priority,
            tenant=record.tenant,
        )


class Ledger(Protocol):
    """Every method raises LedgerTrouble when the store does not answer."""

    async def create(
        self, message: MessageRecord, deliveries: Sequence[DeliveryRecord]
    ) -> Sequence[DeliveryRecord]:
        """Write the message, then its deliveries; what is there already stays as it is.

        Returns the deliveries as the ledger has them now, in the order given.
        """

    async def claim(
        self, key: DeliveryKey, *, attempt: int, owner: str, now: datetime, until: datetime
    ) -> ClaimResult:
        """Begin attempt number `attempt` under a lease.

        Only if the record's `attempt` is this one, its status QUEUED or DEFERRED, and no lease is live
        at `now` (a lease is live until its `until`, exclusive). Appends an Attempt without duration, so
        that a claim whose record never comes stays visible. The result is `begin_attempt` of the
        stored record: stored recipients keep their states until `record`.
        """

    async def mark_committing(self, record: DeliveryRecord, *, owner: str, now: datetime) -> None:
        """Note in the attempt of a claim, whose result `record` is, that the next hop may take the message
        from now on. Again is success. Raises LeaseLost when another claim was made since.
        """

    async def record(self, record: DeliveryRecord, *, owner: str, owes: Sequence[str] = ()) -> None:
        """Write the outcome of a claimed attempt and drop the lease, fenced by the lease's `owner`.

        Stored reports stay as they are; the events in `owes` are added as owed. Raises LeaseLost when
        another claim was made since; nothing is written then.
        """

    async def record_unclaimed(
        self, record: DeliveryRecord, *, attempt: int, now: datetime, owes: Sequence[str] = ()
    ) -> bool:
        """Write an outcome that no claim led to (a worker that never came to a record).

        Only while the delivery is open, still at `attempt`, under the operation that `record` has, and no
        lease is live at `now`; otherwise False, and nothing is written.
        """

    async def operate(
        self,
        record: DeliveryRecord,
        *,
        before: DeliveryRecord,
        now: datetime,
        owes: Sequence[str] = (),
    ) -> bool:
        """Write what an operator made of `before`, which was read later than `now`, and the operation.

        Only while it is what was read: at the same attempt, in the same status, due at the same time, under
        the same operation, and no lease is live at `now`; otherwise False, and nothing is written. Again,
        with an operation of the same id, is success.
        """

    async def mark_queued(self, key: DeliveryKey, *, attempt: int, job_at: datetime) -> None:
        """Note when the job for `attempt` becomes visible; nothing when the delivery has moved on."""

    async def mark_reported(self, key: DeliveryKey, event: str, state: ReportState = "sent") -> None:
        """Turn report `event` from owed to `state`; again, or for an unknown event, it does nothing."""

    async def settle(self, key: DeliveryKey, *, forget_at: datetime | None = None) -> MessageRecord | None:
        """Add a delivery to its message's settled set and return the message, None if there is none.

        With `forget_at` the message is closed in the same write.
        """

    async def close(self, message_id: str, *, forget_at: datetime) -> None:
        """Let the store forget a settled message at `forget_at`; again is success."""

    async def message(self, message_id: str) -> MessageRecord | None:
        """A consistent read."""

    async def delivery(self, key: DeliveryKey) -> DeliveryRecord | None:
        """A consistent read."""

    async def deliveries(self, message_id: str) -> Sequence[DeliveryRecord]:
        """All deliveries of a message, in the order of their keys; a consistent read."""

    async def listed(
        self,
        status: State,
        shard: int,
        *,
        before: datetime | None = None,
        limit: int = 100,
        after: Mapping[str, str] | None = None,
    ) -> tuple[Sequence[Listed], Mapping[str, str] | None]:
        """One page of a listing shard in the order of `at` (up to and including `before`), and where
        the next page starts (None: there is none). Raises ValueError for a state that is not LISTED."""
