"""Ledger.operate: an operator's write takes effect on what was read, or not at all, and undoes nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from empath.aws.ledger import DynamoLedger
from empath.domain.delivery_state import Event, State
from empath.domain.records import DeliveryRecord
from empath.ports import Ledger, Stale
from empath.ports.ledger import listing_shard
from empath.testing.memory_ledger import MemoryLedger
from tests.contracts.ledger_samples import (
    LATER,
    LEASE_END,
    NOW,
    after,
    claimed,
    concluded,
    created,
    held,
    operated,
    stored,
)

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOUR = timedelta(hours=1)


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def ledger(request: pytest.FixtureRequest, dynamodb: DynamoDBClient, deliveries_table: str) -> Ledger:
    if request.param == "memory":
        return MemoryLedger()
    return DynamoLedger(dynamodb, deliveries_table)


def hold(record: DeliveryRecord, name: str = "x") -> DeliveryRecord:
    update = {"next_attempt_at": None, "job_at": None}
    return operated(held(record).model_copy(update=update), name)


async def test_what_an_operator_did_is_written_with_who_did_it(ledger: Ledger) -> None:
    before = await after(ledger, Event.DEFER)
    assert await ledger.operate(hold(before), before=before, now=NOW)
    assert await stored(ledger, before.key) == hold(before)
    result = await ledger.claim(before.key, attempt=2, owner="a", now=LATER, until=LEASE_END)
    assert isinstance(result, Stale)
    rows, _ = await ledger.listed(State.HELD, listing_shard(before.message_id), limit=1000)
    assert before.key in {row.key for row in rows}


async def test_the_same_write_again_is_success_and_changes_nothing(ledger: Ledger) -> None:
    before = await after(ledger, Event.DEFER)
    assert await ledger.operate(hold(before), before=before, now=NOW)
    assert await ledger.operate(hold(before), before=before, now=NOW)
    assert await stored(ledger, before.key) == hold(before)


async def test_of_two_operators_one_is_told_that_he_was_too_late(ledger: Ledger) -> None:
    before = await after(ledger, Event.DEFER)
    assert await ledger.operate(hold(before, "x"), before=before, now=NOW)
    assert not await ledger.operate(hold(before, "y"), before=before, now=NOW)
    first = await stored(ledger, before.key)
    again = operated(before, "y")
    assert await ledger.operate(again, before=first, now=NOW)
    assert not await ledger.operate(operated(before, "z"), before=first, now=NOW)
    assert await stored(ledger, before.key) == again


async def test_nothing_is_changed_under_a_live_lease(ledger: Ledger) -> None:
    before = await created(ledger)
    await claimed(ledger, before)
    assert not await ledger.operate(hold(before), before=before, now=LEASE_END - timedelta(seconds=1))
    assert (await stored(ledger, before.key)).status is State.QUEUED
    dead = await stored(ledger, before.key)
    assert await ledger.operate(hold(dead), before=dead, now=LEASE_END)


async def test_a_recorded_attempt_is_not_undone(ledger: Ledger) -> None:
    before = await created(ledger)
    record = concluded(await claimed(ledger, before), Event.ACCEPT)
    await ledger.record(record, owner="a")
    assert not await ledger.operate(hold(before), before=before, now=NOW)
    assert (await stored(ledger, before.key)).status is State.SENT


async def test_what_a_gate_put_off_meanwhile_is_not_undone(ledger: Ledger) -> None:
    before = await after(ledger, Event.DEFER)
    later = before.model_copy(update={"next_attempt_at": NOW + HOUR})
    assert await ledger.record_unclaimed(later, attempt=before.attempt, now=NOW, owes=["delayed-2"])
    assert not await ledger.operate(hold(before), before=before, now=NOW)
    assert (await stored(ledger, before.key)).next_attempt_at == NOW + HOUR


async def test_an_outcome_without_a_claim_does_not_undo_what_an_operator_did(ledger: Ledger) -> None:
    """A gate, or who works off dead letters, that read the delivery before it was held."""
    before = await after(ledger, Event.DEFER)
    assert await ledger.operate(hold(before), before=before, now=NOW)
    assert not await ledger.record_unclaimed(before, attempt=before.attempt, now=NOW)
    kept = await stored(ledger, before.key)
    assert kept.status is State.HELD
    assert await ledger.record_unclaimed(kept, attempt=kept.attempt, now=NOW)


async def test_an_operation_stays_when_workers_write(ledger: Ledger) -> None:
    before = await after(ledger, Event.DEFER)
    retried = operated(before.model_copy(update={"next_attempt_at": NOW}))
    assert await ledger.operate(retried, before=before, now=NOW)
    record = concluded(await claimed(ledger, retried, "b"), Event.ACCEPT)
    await ledger.record(record.model_copy(update={"operation": None}), owner="b")
    kept = await stored(ledger, before.key)
    assert (kept.status, kept.operation) == (State.SENT, retried.operation)


async def test_reports_are_only_added_to(ledger: Ledger) -> None:
    before = await after(ledger, Event.DEFER)
    await ledger.record_unclaimed(before, attempt=before.attempt, now=NOW, owes=["delayed-1"])
    await ledger.mark_reported(before.key, "delayed-1")
    assert await ledger.operate(hold(before), before=before, now=NOW, owes=["failed-2", "delayed-1"])
    assert (await stored(ledger, before.key)).reports == {"delayed-1": "sent", "failed-2": "owed"}


async def test_a_delivery_that_is_not_there_is_not_made(ledger: Ledger) -> None:
    before = await after(ledger, Event.DEFER)
    nobody = before.model_copy(update={"message_id": "01NOBODY"})
    assert not await ledger.operate(hold(nobody), before=nobody, now=NOW)
    assert await ledger.delivery(nobody.key) is None


async def test_what_has_no_name_is_an_error(ledger: Ledger) -> None:
    before = await after(ledger, Event.DEFER)
    with pytest.raises(ValueError, match="has a name"):
        await ledger.operate(held(before), before=before, now=NOW)
