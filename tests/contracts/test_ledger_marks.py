"""Ledger.mark_committing: in the attempt of the claim, under the claim, and gone with its record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from empath.aws.ledger import DynamoLedger
from empath.domain.errors import LeaseLost
from empath.domain.records import DeliveryRecord
from empath.ports import Claimed, Ledger
from empath.testing.memory_ledger import MemoryLedger
from tests.contracts.ledger_samples import LATER, LEASE_END, NOW, created, stored

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def ledger(request: pytest.FixtureRequest, dynamodb: DynamoDBClient, deliveries_table: str) -> Ledger:
    if request.param == "memory":
        return MemoryLedger()
    return DynamoLedger(dynamodb, deliveries_table)


async def claim(ledger: Ledger, record: DeliveryRecord, owner: str, *, late: bool = False) -> DeliveryRecord:
    now = LEASE_END if late else NOW
    result = await ledger.claim(record.key, attempt=1, owner=owner, now=now, until=now + (LEASE_END - NOW))
    assert isinstance(result, Claimed)
    return result.record


async def test_the_mark_is_in_the_attempt_of_the_claim(ledger: Ledger) -> None:
    record = await created(ledger)
    await claim(ledger, record, "a")
    again = await claim(ledger, record, "b", late=True)
    await ledger.mark_committing(again, owner="b", now=LATER)
    await ledger.mark_committing(again, owner="b", now=LATER)
    kept = await stored(ledger, record.key)
    assert [(attempt.owner, attempt.commits_at) for attempt in kept.attempts] == [("a", None), ("b", LATER)]
    assert kept.lease is not None


async def test_whoever_lost_the_lease_marks_nothing(ledger: Ledger) -> None:
    record = await created(ledger)
    old = await claim(ledger, record, "a")
    await claim(ledger, record, "b", late=True)
    with pytest.raises(LeaseLost):
        await ledger.mark_committing(old, owner="a", now=LATER)
    kept = await stored(ledger, record.key)
    assert [attempt.commits_at for attempt in kept.attempts] == [None, None]


async def test_a_delivery_that_is_not_there_is_not_marked_into_being(ledger: Ledger) -> None:
    record = await created(ledger)
    claimed = await claim(ledger, record, "a")
    nobody = claimed.model_copy(update={"message_id": "01NOBODY"})
    with pytest.raises(LeaseLost):
        await ledger.mark_committing(nobody, owner="a", now=LATER)
    assert await ledger.delivery(nobody.key) is None
