"""What operators do to deliveries: hold, release, try now, delete.

    read -> decide -> write, on condition that it is what was read -> the job that is due, if any

A worker and an operator never both have their way: a claim needs QUEUED or DEFERRED and no lease, an
operation needs what was read and no lease, and each is one conditional write of the same item. Whichever
comes second is told. While a worker has a delivery there is nothing to be done but to come again, for the
mail may be gone already.

Nothing is lost, wherever an operator's process dies:
- Before the write, nothing happened.
- After it, what is to be tried is DEFERRED and due now, without a job (`job_at` empty). The clock looks for
  that each minute, so the job that follows the write is a matter of seconds and not of safety. For this
  reason a released recipient goes HELD -> QUEUED -> DEFERRED in one write: QUEUED deliveries are not in the
  `listing` index, and nobody would find one whose job was never sent.
- After a delete that owes a report nobody would look for the report's job. So one goes ahead of the write, so
  late that it finds the write done; where the write was refused there is no such report, and it does nothing.

Nothing happens twice: a job that is still about from before names the same attempt, and the claim takes one
of them; where the attempt has passed, or the delivery is held or gone, a job finds itself to be a stale copy.
An operation that finds its work done is `unchanged`, and completes what may be missing.

What an operator does is told to the audit trail by the journal, which sees it in the ledger's stream: there
is a line exactly when there was a write, whatever becomes of the operator's process, and the operator needs
no right to the trail.

A held delivery does not expire, for only what is tried can be given up; released after its time it gets one
last attempt, like everything that comes to its end while it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from empath.domain.delivery_state import Event, State, advance
from empath.domain.errors import Trouble
from empath.domain.outcome import Failed
from empath.domain.reason import Reason
from empath.domain.records import DeliveryKey, DeliveryRecord, Operation, OperationName, RecipientRecord
from empath.domain.reply import Reply
from empath.domain.retry import RetryPolicy
from empath.pipeline.batch import all_of
from empath.pipeline.conclude import RETENTION, AttemptResult, conclude, unclaimed_attempt
from empath.pipeline.followups import FollowUps, NextAttempt
from empath.pipeline.jobs import DsnJob
from empath.pipeline.lanes import group_of
from empath.pipeline.stage import Stage
from empath.ports import Clock, IdSource, JobQueue, Ledger, OutgoingJob, QueueName
from empath.ports.queue import MAX_DELAY

SKEW = timedelta(minutes=5)
"""How far an operator's clock may be off: AWS takes no request that was signed by one farther off. A lease
counts as live for so much longer, for nothing may be written over a worker that is still at it."""

ROUNDS = 5
"""Times that a delivery is read again because it changed before it could be written."""

AT_ONCE = 16
"""Deliveries in work at a time: fifty calls on their way, about what one CPU keeps up with."""

OWNER = "operator"
"""Who an attempt is of that only an operator made, to give a delivery up."""

DELETED = Reply.of(554, "5.7.0", "An administrator took the message out of the queue")


class Did(StrEnum):
    """What became of an operation on one delivery."""

    DONE = "done"
    UNCHANGED = "unchanged"  # it was so already
    REFUSED = "refused"  # not in this state
    BUSY = "busy"  # a worker has it
    MISSING = "missing"
    FAILED = "failed"  # something did not answer: it may be done, and doing it again does no harm


class Effect(StrEnum):
    """What an operation does to a recipient."""

    HOLD = "hold"
    WAIT = "wait"  # for the attempt that is due now
    CANCEL = "cancel"
    KEEP = "keep"  # nothing is to be done to it
    REFUSE = "refuse"


_K, _R = Effect.KEEP, Effect.REFUSE

EFFECTS: Mapping[OperationName, Mapping[State, Effect]] = {
    "hold": {State.QUEUED: Effect.HOLD, State.DEFERRED: Effect.HOLD, State.HELD: _K},
    "release": {State.QUEUED: _K, State.DEFERRED: _K, State.HELD: Effect.WAIT},
    "retry": {State.QUEUED: Effect.WAIT, State.DEFERRED: Effect.WAIT, State.HELD: _R},
    "delete": dict.fromkeys((State.QUEUED, State.DEFERRED, State.HELD), Effect.CANCEL),
}
"""By the state of a recipient; a final one (what it was deleted to is no exception) is left alone."""

_REASONS: Mapping[OperationName, Reason] = {
    "hold": Reason.OPERATOR_HOLD,
    "release": Reason.OPERATOR_RELEASE,
    "retry": Reason.OPERATOR_RETRY,
    "delete": Reason.OPERATOR_DELETE,
}

_CHAINS: Mapping[tuple[Effect, State], tuple[Event, ...]] = {
    (Effect.HOLD, State.QUEUED): (Event.HOLD,),
    (Effect.HOLD, State.DEFERRED): (Event.HOLD,),
    (Effect.WAIT, State.HELD): (Event.RELEASE, Event.DEFER),
    (Effect.CANCEL, State.QUEUED): (Event.CANCEL,),
    (Effect.CANCEL, State.DEFERRED): (Event.CANCEL,),
    (Effect.CANCEL, State.HELD): (Event.CANCEL,),
}


@dataclass(frozen=True, slots=True)
class Operated:
    """One delivery, and what became of it; `until` is when a lease that is in the way ends at the latest."""

    key: DeliveryKey
    did: Did
    before: State | None = None
    after: State | None = None
    until: datetime | None = None
    reported: bool = False
    """The sender gets a report of it."""
    problem: str | None = None
    """What did not answer."""


@dataclass(frozen=True, slots=True)
class Operations(Stage):
    """What one operator does."""

    queue: JobQueue
    ledger: Ledger
    clock: Clock
    ids: IdSource
    operator: str

    async def operate(
        self, action: OperationName, key: DeliveryKey, *, report: bool = False, wait: float = 0
    ) -> Operated:
        """Do `action` to a delivery, if it is possible now. Raises LedgerTrouble or QueueTrouble: again then.

        `report` is for `delete`: the recipients fail, and their sender is told as NOTIFY says. `wait` is for
        `retry` and `release`: seconds from now until the attempt is due.
        """
        operation_id = self.ids.new_id()
        status: State | None = None
        for _ in range(ROUNDS):
            # Before the delivery is read: whatever a worker does after that has a lease beyond it.
            now = self.clock.now()
            before = await self.ledger.delivery(key)
            if before is None:
                return Operated(key, Did.MISSING)
            status = before.status
            if before.lease is not None and before.lease.until > now - SKEW:
                return Operated(key, Did.BUSY, status, status, before.lease.until + SKEW)
            operation = Operation(id=operation_id, action=action, operator=self.operator, at=now)
            decided = await self._decided(before, operation, report=report, due=now + timedelta(seconds=wait))
            if isinstance(decided, Did):
                await self._complete(before, now)
                return Operated(key, decided, status, status)
            after = decided.record
            if await self.ledger.operate(after, before=before, now=now - SKEW, owes=decided.owes):
                if after.status is State.QUEUED:
                    # Its job should be on its queue; in case it is lost, there is another now.
                    attempt = NextAttempt.of(after, now)
                    await self.queue.send(attempt.queue, [attempt.outgoing(now)])
                await self._complete(after, now)
                return Operated(key, Did.DONE, status, after.status, reported=bool(decided.owes))
        return Operated(key, Did.BUSY, status, status)

    async def operate_all(
        self, action: OperationName, keys: Iterable[DeliveryKey], *, report: bool = False, wait: float = 0
    ) -> list[Operated]:
        """Do `action` to many deliveries, each by itself; what became of them, in order."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(key: DeliveryKey) -> Operated:
            async with turns:
                try:
                    return await self.operate(action, key, report=report, wait=wait)
                except Trouble as trouble:
                    return Operated(key, Did.FAILED, problem=str(trouble))

        return await all_of(map(one, keys))

    async def _decided(
        self, before: DeliveryRecord, operation: Operation, *, report: bool, due: datetime
    ) -> _Decision | Did:
        action = operation.action
        effects = {address: EFFECTS[action].get(one.state) for address, one in before.recipients.items()}
        if not set(effects.values()) & {Effect.HOLD, Effect.WAIT, Effect.CANCEL}:
            is_refused = Effect.REFUSE in effects.values() or (before.is_final and not _is_deleted(before))
            return Did.REFUSED if is_refused or (before.is_final and action != "delete") else Did.UNCHANGED
        if action == "delete" and report:
            return await self._given_up(before, operation)
        recipients = {
            address: _after(one, effects[address], action) for address, one in before.recipients.items()
        }
        changes: dict[str, Any] = {"recipients": recipients, "reason": _REASONS[action], "waited": None}
        is_waiting = any(one.state is State.DEFERRED for one in recipients.values())
        changes |= {"next_attempt_at": due if is_waiting else None, "job_at": None}
        after = before.model_copy(update=changes | {"operation": operation, "lease": None})
        if after.is_final:
            # Nobody will come to claim it, and so to see that some of its attempts have no end.
            attempts = tuple(
                attempt.model_copy(update={"ambiguous": True}) if attempt.duration is None else attempt
                for attempt in after.attempts
            )
            after = after.model_copy(update={"attempts": attempts, "forget_at": operation.at + RETENTION})
        return _Decision(after)

    async def _given_up(self, before: DeliveryRecord, operation: Operation) -> _Decision:
        """The delivery failed for good, like one whose next hop refused it."""
        message = await self.ledger.message(before.message_id)
        released = {
            address: one.model_copy(update={"state": advance(one.state, Event.RELEASE)})
            if one.state is State.HELD
            else one
            for address, one in before.recipients.items()
        }
        begun = unclaimed_attempt(
            before.model_copy(update={"recipients": released}), now=operation.at, owner=OWNER
        )
        concluded = conclude(
            begun,
            AttemptResult.for_all(begun, Failed(DELETED, Reason.OPERATOR_DELETE)),
            now=operation.at,
            policy=RetryPolicy(),  # nobody waits any more, so nothing of it matters
            random=0.5,
            reportable=message is not None and message.reverse_path is not None,
        )
        for event in concluded.owes:
            job = DsnJob(message_id=before.message_id, delivery=before.delivery, event=event)
            ahead = OutgoingJob(job.encode(), delay=MAX_DELAY, group=group_of(before.tenant))
            await self.queue.send(QueueName.DSN, [ahead])
        record = concluded.record.model_copy(update={"operation": operation})
        return _Decision(record, concluded.owes)

    async def _complete(self, record: DeliveryRecord, now: datetime) -> None:
        await FollowUps(self.queue, self.ledger).complete(record, now=now)


@dataclass(frozen=True, slots=True)
class _Decision:
    record: DeliveryRecord
    owes: tuple[str, ...] = ()


def _is_deleted(record: DeliveryRecord) -> bool:
    return record.operation is not None and record.operation.action == "delete"


def _after(recipient: RecipientRecord, effect: Effect | None, action: OperationName) -> RecipientRecord:
    """The recipient in its new state; one that stays in its state keeps what was heard about it."""
    state = recipient.state
    events = _CHAINS.get((effect, state), ()) if effect is not None else ()
    if not events:
        return recipient
    for event in events:
        state = advance(state, event)
    return recipient.model_copy(update={"state": state, "reason": _REASONS[action]})
