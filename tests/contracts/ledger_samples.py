"""Messages and deliveries for the ledger's contract; every test has ids of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from empath.domain.address import Mailbox
from empath.domain.delivery_state import Event, State, advance
from empath.domain.records import DeliveryKey, DeliveryRecord, MessageRecord, Operation, RecipientRecord
from empath.domain.reply import Reply
from empath.ports import Claimed, Ledger
from empath.system import UlidSource

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=30)
LEASE_END = NOW + timedelta(seconds=100)
_IDS = UlidSource()


def new_message(deliveries: int = 1, **fields: Any) -> MessageRecord:
    message_id = _IDS.new_id()
    given: dict[str, Any] = {
        "message_id": message_id,
        "reverse_path": Mailbox("sender", "example.org"),
        "spool_key": f"messages/{message_id}",
        "size": 1234,
        "received_at": NOW,
        "deliveries": deliveries,
    }
    return MessageRecord(**(given | fields))


def new_delivery(message: MessageRecord, domain: str = "example.com", **fields: Any) -> DeliveryRecord:
    given: dict[str, Any] = {
        "message_id": message.message_id,
        "delivery": f"delivery#{domain}",
        "domain": domain,
        "siblings": message.deliveries,
        "received_at": NOW,
        "expires": NOW + timedelta(days=5),
        "recipients": {f"user@{domain}": RecipientRecord()},
    }
    return DeliveryRecord(**(given | fields))


async def created(ledger: Ledger, **fields: Any) -> DeliveryRecord:
    """A delivery in the ledger, the only one of its message."""
    message = new_message()
    [delivery] = await ledger.create(message, [new_delivery(message, **fields)])
    return delivery


async def claimed(ledger: Ledger, delivery: DeliveryRecord, owner: str = "a", **times: Any) -> DeliveryRecord:
    """What the holder of a fresh claim sees."""
    given: dict[str, Any] = {"now": NOW, "until": LEASE_END}
    result = await ledger.claim(delivery.key, attempt=delivery.attempt, owner=owner, **(given | times))
    assert isinstance(result, Claimed)
    return result.record


def concluded(record: DeliveryRecord, event: Event, **fields: Any) -> DeliveryRecord:
    """A claimed record after its attempt: every recipient through `event`, the attempt recorded."""
    reply = {
        Event.ACCEPT: Reply.of(250, "2.0.0", "queued"),
        Event.DEFER: Reply.of(451, "4.7.1", "later"),
        Event.REFUSE: Reply.of(550, "5.1.1", "no such user"),
    }[event]
    recipients = {
        address: recipient.model_copy(
            update={"state": advance(recipient.state, event), "reply": reply, "attempt": record.attempt}
        )
        for address, recipient in record.recipients.items()
    }
    last = record.attempts[-1].model_copy(
        update={"duration": 0.25, "reply": reply, "next_hop": "mx[192.0.2.1]"}
    )
    changes: dict[str, Any] = {
        "recipients": recipients,
        "attempts": (*record.attempts[:-1], last),
        "attempt": record.attempt + 1,
        "next_attempt_at": NOW + timedelta(minutes=1) if event is Event.DEFER else None,
        "job_at": None,
    }
    return record.model_copy(update=changes | fields)


async def after(ledger: Ledger, event: Event, **fields: Any) -> DeliveryRecord:
    """A stored delivery whose first attempt ended with `event`."""
    delivery = await created(ledger)
    record = concluded(await claimed(ledger, delivery), event, **fields)
    await ledger.record(record, owner="a")
    return await stored(ledger, delivery.key)


async def stored(ledger: Ledger, key: DeliveryKey) -> DeliveryRecord:
    record = await ledger.delivery(key)
    assert record is not None
    return record


def operated(record: DeliveryRecord, name: str = "x", *, at: datetime = NOW) -> DeliveryRecord:
    """The same delivery with an operation called `name`."""
    operation = Operation(id=name, action="hold", operator="arn:aws:iam::1:user/ann", at=at)
    return record.model_copy(update={"operation": operation})


def held(record: DeliveryRecord) -> DeliveryRecord:
    """The same delivery held by an operator."""
    recipients = {
        address: recipient.model_copy(update={"state": State.HELD})
        for address, recipient in record.recipients.items()
    }
    return record.model_copy(update={"recipients": recipients})
