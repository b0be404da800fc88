"""The `listing` index: what waits or ended badly, by status and shard, in the order of time."""

from __future__ import annotations

import zlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from empath.aws.ledger import DynamoLedger
from empath.domain.delivery_state import LISTED, Event, State
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord
from empath.ports import Ledger, Listed
from empath.ports.ledger import LISTING_SHARDS, listing_shard
from empath.testing.memory_ledger import MemoryLedger
from tests.contracts.ledger_samples import NOW, after, claimed, concluded, created, held, new_message, stored

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOUR = timedelta(hours=1)


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def ledger(request: pytest.FixtureRequest, dynamodb: DynamoDBClient, fresh_table: str) -> Ledger:
    if request.param == "memory":
        return MemoryLedger()
    return DynamoLedger(dynamodb, fresh_table)


async def listing(ledger: Ledger, status: State, before: datetime | None = None) -> list[Listed]:
    rows: list[Listed] = []
    for shard in range(LISTING_SHARDS):
        found, more = await ledger.listed(status, shard, before=before)
        assert more is None
        assert all(listing_shard(row.key.message_id) == shard for row in found)
        rows += found
    return rows


async def deferred(ledger: Ledger, at: datetime) -> DeliveryRecord:
    return await after(ledger, Event.DEFER, next_attempt_at=at, reason=Reason.NEXT_HOP_REPLY)


async def test_the_shard_of_a_message_is_the_same_for_every_release() -> None:
    message_id = new_message().message_id
    assert listing_shard(message_id) == zlib.crc32(message_id.encode()) % 8
    assert {listing_shard(str(number)) for number in range(100)} == set(range(LISTING_SHARDS))


async def test_a_row_tells_what_the_clock_decides_on(ledger: Ledger) -> None:
    delivery = await deferred(ledger, NOW + HOUR)
    await ledger.mark_queued(delivery.key, attempt=2, job_at=NOW + HOUR)
    assert await listing(ledger, State.DEFERRED) == [
        Listed(
            key=delivery.key,
            status=State.DEFERRED,
            at=NOW + HOUR,
            attempt=2,
            job_at=NOW + HOUR,
            next_attempt_at=NOW + HOUR,
            reason="next_hop_reply",
        )
    ]


async def test_a_row_tells_priority_and_tenant(ledger: Ledger) -> None:
    delivery = await created(ledger, priority="bulk", tenant="shop")
    await ledger.record(concluded(await claimed(ledger, delivery), Event.DEFER), owner="a")
    record = await stored(ledger, delivery.key)
    assert (record.priority, record.tenant) == ("bulk", "shop")
    [row] = await listing(ledger, State.DEFERRED)
    assert (row.priority, row.tenant) == ("bulk", "shop")


async def test_a_queued_or_sent_delivery_is_not_listed(ledger: Ledger) -> None:
    await created(ledger)
    await after(ledger, Event.ACCEPT)
    for status in LISTED:
        assert await listing(ledger, status) == []


async def test_a_failed_delivery_is_listed_at_its_last_attempt(ledger: Ledger) -> None:
    delivery = await after(ledger, Event.REFUSE)
    [row] = await listing(ledger, State.FAILED)
    assert (row.key, row.at, row.next_attempt_at) == (delivery.key, NOW, None)


async def test_a_held_delivery_is_listed(ledger: Ledger) -> None:
    delivery = await created(ledger)
    assert await ledger.record_unclaimed(held(delivery), attempt=1, now=NOW)
    assert [row.key for row in await listing(ledger, State.HELD)] == [delivery.key]


async def test_a_delivery_moves_from_list_to_list_and_vanishes_when_it_is_sent(ledger: Ledger) -> None:
    delivery = await deferred(ledger, NOW + HOUR)
    assert await ledger.record_unclaimed(held(delivery), attempt=2, now=NOW)
    assert await listing(ledger, State.DEFERRED) == []
    assert len(await listing(ledger, State.HELD)) == 1

    other = await deferred(ledger, NOW)
    record = await claimed(ledger, other, owner="b")
    assert len(await listing(ledger, State.DEFERRED)) == 1
    await ledger.record(concluded(record, Event.ACCEPT), owner="b")
    assert (await stored(ledger, other.key)).status is State.SENT
    assert await listing(ledger, State.DEFERRED) == []


async def test_rows_come_in_the_order_of_time_and_pages_join_without_gap(ledger: Ledger) -> None:
    deliveries = [
        await deferred(ledger, NOW + number * HOUR / 7) for number in (5, 3, 8, 1, 9, 2, 7, 4, 6, 0)
    ]
    expected: dict[int, list[DeliveryRecord]] = {}
    for delivery in sorted(deliveries, key=DeliveryRecord.listed_at):
        expected.setdefault(listing_shard(delivery.message_id), []).append(delivery)
    for shard, records in expected.items():
        keys, token = [], None
        while True:
            rows, token = await ledger.listed(State.DEFERRED, shard, limit=2, after=token)
            assert 0 < len(rows) <= 2
            keys += [row.key for row in rows]
            if token is None:
                break
        assert keys == [record.key for record in records]


async def test_the_last_page_has_no_next_one_also_when_it_is_full(ledger: Ledger) -> None:
    delivery = await deferred(ledger, NOW)
    rows, token = await ledger.listed(State.DEFERRED, listing_shard(delivery.message_id), limit=1)
    assert ([row.key for row in rows], token) == ([delivery.key], None)


async def test_before_is_inclusive(ledger: Ledger) -> None:
    first = await deferred(ledger, NOW)
    await deferred(ledger, NOW + timedelta(milliseconds=1))
    assert [row.key for row in await listing(ledger, State.DEFERRED, before=NOW)] == [first.key]
    assert await listing(ledger, State.DEFERRED, before=NOW - timedelta(milliseconds=1)) == []
    assert len(await listing(ledger, State.DEFERRED, before=NOW + HOUR)) == 2


@pytest.mark.parametrize("status", sorted(set(State) - LISTED))
async def test_a_state_that_is_not_listed_is_an_error_of_the_caller(ledger: Ledger, status: State) -> None:
    with pytest.raises(ValueError, match=status):
        await ledger.listed(status, 0)
