"""What the in-memory ledger has beyond its port: the table's stream and its time to live."""

from __future__ import annotations

from datetime import timedelta

from empath.domain.delivery_state import Event, State
from empath.domain.records import DeliveryRecord
from empath.testing.memory_ledger import MemoryLedger
from tests.contracts.ledger_samples import LATER, NOW, claimed, concluded, created, stored


async def test_the_stream_shows_every_change_of_a_key_in_order_with_old_and_new() -> None:
    ledger = MemoryLedger()
    delivery = await created(ledger)
    await ledger.record(concluded(await claimed(ledger, delivery), Event.ACCEPT), owner="a")
    changes = ledger.take_stream_records()
    assert [old is None for old, _ in changes] == [True, True, False, False]
    seen = [change for change in changes if isinstance(change[1], DeliveryRecord)]
    statuses = [new.status for _, new in seen if isinstance(new, DeliveryRecord)]
    assert statuses == [State.QUEUED, State.QUEUED, State.SENT]
    assert [old for old, _ in seen] == [None, *(new for _, new in seen[:-1])]


async def test_what_was_taken_from_the_stream_does_not_come_again() -> None:
    ledger = MemoryLedger()
    await created(ledger)
    assert len(ledger.take_stream_records()) == 2
    assert ledger.take_stream_records() == []


async def test_dynamodb_a_write_that_changes_nothing_shows_nothing_on_the_stream() -> None:
    ledger = MemoryLedger()
    delivery = await created(ledger)
    await ledger.settle(delivery.key, forget_at=LATER)
    ledger.take_stream_records()
    await ledger.settle(delivery.key, forget_at=LATER + timedelta(days=1))
    await ledger.close(delivery.message_id, forget_at=LATER + timedelta(days=2))
    await ledger.mark_reported(delivery.key, "failed-1")
    assert ledger.take_stream_records() == []


async def test_records_are_forgotten_at_their_time_and_the_stream_shows_it() -> None:
    ledger = MemoryLedger()
    delivery = await created(ledger)
    record = concluded(await claimed(ledger, delivery), Event.ACCEPT, forget_at=LATER)
    await ledger.record(record, owner="a")
    last = await stored(ledger, delivery.key)
    await ledger.settle(delivery.key, forget_at=LATER)
    ledger.take_stream_records()
    ledger.forget(NOW)
    assert ledger.take_stream_records() == []
    ledger.forget(LATER)
    assert await ledger.message(delivery.message_id) is None
    assert await ledger.delivery(delivery.key) is None
    assert (last, None) in ledger.take_stream_records()
