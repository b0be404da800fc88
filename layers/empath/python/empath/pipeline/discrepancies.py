"""What does not fit together between spool, ledger and queues: the rules, without any port.

Nobody can look into a queue, so a job counts as lost when its time is over by more than `patience`: a busy
relay is late, too, and then a second job is sent, which the claim makes harmless. Content is another matter:
a raw object that the ledger does not know may be mail whose job still waits to be resolved, and nothing but
that job knows the envelope. It is mail until no job of it can exist any more (`OWED_FOR`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from empath.domain.delivery_state import State
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.domain.retry import MAX_EXPIRY
from empath.domain.ulid import ULID_PATTERN
from empath.pipeline.accept import spool_key_of
from empath.pipeline.conclude import RETENTION
from empath.ports.inventory import Item, RawObject, Unreadable, Upload
from empath.ports.lost_changes import LostChanges

_ULID = re.compile(ULID_PATTERN)

JOB_LIFE = timedelta(days=14)
"""How long a queue keeps a job."""

OWED_FOR = timedelta(seconds=MAX_EXPIRY) + JOB_LIFE + timedelta(days=1)
"""45 days. The job of a message that cannot be resolved is sent anew until the message expires, by its policy
after 30 days at most, and the last one is kept for 14 days; one day is for whatever else."""

UPLOAD_LIFE = timedelta(hours=2)
"""No upload goes on for longer: a session ends after half an hour, and storing after minutes."""


class Kind(StrEnum):
    UNKNOWN_OBJECT = "unknown_object"
    SETTLED_OBJECT = "settled_object"
    UNFINISHED_UPLOAD = "unfinished_upload"
    LOST_JOB = "lost_job"
    OWED_REPORT = "owed_report"
    NOT_SETTLED = "not_settled"
    INCOMPLETE_MESSAGE = "incomplete_message"
    STRAY_DELIVERY = "stray_delivery"
    UNREADABLE_ITEM = "unreadable_item"
    LOST_CHANGES = "lost_changes"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    kind: Kind
    message_id: str
    """Of an object with a foreign key, that key; of changes that the journal gave up on, their place."""
    since: datetime | None
    """From when on it should have been otherwise."""
    detail: str
    delivery: str | None = None
    is_repairable: bool = True
    """False: there is nothing to be done about it yet, or by a program at all."""

    @property
    def target(self) -> str:
        return f"{self.message_id}/{self.delivery}" if self.delivery else self.message_id


@dataclass(frozen=True, slots=True)
class Story:
    """All that the ledger has of a message."""

    message_id: str
    message: MessageRecord | None
    deliveries: Sequence[DeliveryRecord]
    unreadable: Sequence[Unreadable] = ()

    @classmethod
    def of(cls, message_id: str, items: Sequence[Item]) -> Story:
        return cls(
            message_id,
            next((item for item in items if isinstance(item, MessageRecord)), None),
            [item for item in items if isinstance(item, DeliveryRecord)],
            [item for item in items if isinstance(item, Unreadable)],
        )

    @property
    def is_over(self) -> bool:
        """Whether nothing that is known of it will ever need its content again."""
        return not self.unreadable and all(record.is_settled for record in self.deliveries)


def in_story(story: Story, *, now: datetime, patience: timedelta) -> Iterator[Finding]:
    """What is wrong with a message in the ledger."""
    for item in story.unreadable:
        yield Finding(
            Kind.UNREADABLE_ITEM, item.message_id, None, item.fault, delivery=item.name, is_repairable=False
        )
    late = now - patience
    if story.message is None:
        yield from _without_message(story, late)
        return
    for record in story.deliveries:
        yield from _in_delivery(record, late)
    if story.message.forget_at is None and not story.unreadable:
        yield from _unclosed(story, story.message, now, late)


def of_object(found: RawObject, story: Story, *, now: datetime, patience: timedelta) -> Finding | None:
    """What is wrong with a raw object, as far as `in_story` does not say it."""
    late, message = now - patience, story.message
    if message is None:
        if found.stored_at > late:
            return None
        until = found.stored_at + OWED_FOR
        is_over = story.is_over and until <= now
        detail = f"{found.size} octets that the ledger knows no message for"
        if not is_over:
            detail += f"; kept until {until:%Y-%m-%d}, when no job of it can exist any more"
        return Finding(Kind.UNKNOWN_OBJECT, story.message_id, found.stored_at, detail, is_repairable=is_over)
    if message.forget_at is None or not story.is_over:
        return None
    # Closing came last. What is stored later was put back by a late worker.
    since = max(message.forget_at - RETENTION, found.stored_at)
    if since > late:
        return None
    return Finding(Kind.SETTLED_OBJECT, story.message_id, since, f"{found.size} octets that nobody needs")


def foreign_object(found: RawObject) -> Finding:
    """An object among the raw messages whose key is no message's."""
    detail = f"{found.size} octets under a key that Empath gives to nothing"
    return Finding(Kind.UNKNOWN_OBJECT, found.key, found.stored_at, detail, is_repairable=False)


def of_upload(upload: Upload, *, now: datetime) -> Finding | None:
    """What is wrong with parts of an object."""
    if upload.begun_at + UPLOAD_LIFE > now:
        return None
    detail = "parts of a message that was never accepted"
    message_id = message_id_of(upload.key) or upload.key
    return Finding(Kind.UNFINISHED_UPLOAD, message_id, upload.begun_at, detail)


def of_changes(lost: LostChanges) -> Finding:
    """Changes that the journal gave up on. What they settle is found in the ledger, too."""
    detail = f"{lost.count} changes, without their audit lines, events and suppressions"
    if not lost.is_readable:
        detail = "a message that names no changes; see what it is, and delete it"
    return Finding(Kind.LOST_CHANGES, lost.place, lost.since, detail, is_repairable=lost.is_readable)


def message_id_of(key: str) -> str | None:
    """The message whose raw object a key names; None for a key that is none of ours."""
    message_id = key.rpartition("/")[2]
    return message_id if _ULID.fullmatch(message_id) and key == spool_key_of(message_id) else None


def is_waiting(record: DeliveryRecord) -> bool:
    """Whether a job has to come for the next attempt."""
    return record.status in (State.QUEUED, State.DEFERRED)


def due_at(record: DeliveryRecord) -> datetime:
    """When a job of a waiting delivery should have come, as far as is known; not before its lease ends."""
    known = [record.received_at, record.job_at, record.next_attempt_at]
    known += [attempt.started for attempt in record.attempts[-1:]]
    if record.lease is not None:
        known.append(record.lease.until)
    return max(moment for moment in known if moment is not None)


def ended_at(record: DeliveryRecord) -> datetime:
    """When the last thing happened that a delivery's record knows the time of."""
    if not record.attempts:
        return record.received_at
    last = record.attempts[-1]
    return last.started + timedelta(seconds=last.duration or 0)


def missing_deliveries(story: Story, message: MessageRecord) -> int:
    """How many deliveries a message should have, and the ledger neither has nor has forgotten as settled."""
    known = message.settled | {record.delivery for record in story.deliveries}
    return max(message.deliveries - len(known), 0)


def _without_message(story: Story, late: datetime) -> Iterator[Finding]:
    for record in story.deliveries:
        if not record.is_final and record.received_at <= late:
            detail = f"{record.status}, and the message item that it needs is not there"
            yield Finding(
                Kind.STRAY_DELIVERY,
                story.message_id,
                record.received_at,
                detail,
                delivery=record.delivery,
                is_repairable=False,
            )


def _in_delivery(record: DeliveryRecord, late: datetime) -> Iterator[Finding]:
    due = due_at(record)
    if is_waiting(record) and due <= late:
        detail = f"{record.status}, attempt {record.attempt} should have begun"
        yield Finding(Kind.LOST_JOB, record.message_id, due, detail, delivery=record.delivery)
    if record.owes_reports and ended_at(record) <= late:
        owed = ", ".join(event for event, state in record.reports.items() if state == "owed")
        yield Finding(
            Kind.OWED_REPORT, record.message_id, ended_at(record), f"report {owed}", delivery=record.delivery
        )


def _unclosed(story: Story, message: MessageRecord, now: datetime, late: datetime) -> Iterator[Finding]:
    missing = missing_deliveries(story, message)
    if missing:
        if message.received_at > late:
            return
        until = message.received_at + OWED_FOR
        is_over = story.is_over and until <= now
        detail = f"{missing} of {message.deliveries} deliveries are not in the ledger"
        if until > now:
            detail += f"; its job may bring them until {until:%Y-%m-%d}"
        yield Finding(
            Kind.INCOMPLETE_MESSAGE, story.message_id, message.received_at, detail, is_repairable=is_over
        )
        return
    over = [record for record in story.deliveries if record.is_settled]
    if not over and story.deliveries:
        return
    unnoted = [record for record in over if record.delivery not in message.settled]
    if not unnoted and not message.is_settled:
        return
    since = max([message.received_at, *map(ended_at, unnoted or over)])
    if since <= late:
        detail = f"deliveries that ended and are not counted: {len(unnoted)}"
        yield Finding(
            Kind.NOT_SETTLED, story.message_id, since, detail if unnoted else "counted, and not closed"
        )
