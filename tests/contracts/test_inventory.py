"""The Inventory contract: everything that is stored is shown once, and what is asked for is as it is now."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from empath.aws.inventory import AwsInventory
from empath.aws.ledger import DynamoLedger
from empath.aws.spool import S3Spool
from empath.domain.delivery_state import Event
from empath.domain.errors import LedgerTrouble, SpoolTrouble
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.ports import Ledger, Spool
from empath.ports.inventory import Inventory, Item, Unreadable, Upload
from empath.system import SystemClock
from empath.testing.memory_inventory import MemoryInventory
from empath.testing.memory_ledger import MemoryLedger
from empath.testing.memory_spool import MemorySpool
from tests.contracts.ledger_samples import LATER, after, claimed, concluded, new_delivery, new_message

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Stores:
    spool: Spool
    ledger: Ledger
    inventory: Inventory
    begin: Callable[[str], Any]
    """Begins an upload that nobody goes on with."""
    spoil: Callable[[str], Any]
    """Puts a message into the ledger that no release can read."""


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def stores(
    request: pytest.FixtureRequest, s3: S3Client, dynamodb: DynamoDBClient, fresh_table: str
) -> Stores:
    if request.param == "memory":
        spool, ledger = MemorySpool(clock=SystemClock()), MemoryLedger()
        memory = MemoryInventory(spool, ledger, page=3)

        async def begin_here(key: str) -> None:
            memory.unfinished.append(Upload(key, f"u-{key}", datetime.now(UTC)))

        async def spoil_here(message_id: str) -> None:
            memory.unreadable.append(Unreadable(message_id, "message", "schema 99"))

        return Stores(spool, ledger, memory, begin_here, spoil_here)
    bucket = f"spool-{uuid.uuid4().hex}"
    await s3.create_bucket(Bucket=bucket)

    async def begin(key: str) -> None:
        await s3.create_multipart_upload(Bucket=bucket, Key=key)

    async def spoil(message_id: str) -> None:
        item: Any = {"pk": {"S": message_id}, "sk": {"S": "message"}, "schema": {"N": "99"}}
        await dynamodb.put_item(TableName=fresh_table, Item=item)

    return Stores(
        S3Spool(s3, bucket),
        DynamoLedger(dynamodb, fresh_table),
        AwsInventory(s3, bucket, dynamodb, fresh_table),
        begin,
        spoil,
    )


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def unclosed(inventory: Inventory, segments: int = 4) -> list[Item]:
    items: list[Item] = []
    for number in range(segments):
        async for page in inventory.unclosed(number, segments):
            items += page
    return items


def names(items: Sequence[Item]) -> list[tuple[str, str]]:
    def name(item: Item) -> str:
        match item:
            case MessageRecord():
                return "message"
            case DeliveryRecord():
                return item.delivery
        return item.name

    return sorted((item.message_id, name(item)) for item in items)


async def test_every_raw_object_is_shown_once_with_its_size_and_age(stores: Stores) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=5)
    keys = [f"messages/{number:04}" for number in range(8)]
    for number, key in enumerate(keys):
        await stores.spool.put(key, chunks(b"x" * number))
    await stores.spool.put("health/probe", chunks(b""))
    found = [entry async for page in stores.inventory.objects() for entry in page]
    assert [(entry.key, entry.size) for entry in found] == [(key, n) for n, key in enumerate(keys)]
    assert all(begun <= entry.stored_at <= datetime.now(UTC) for entry in found)


async def test_one_raw_object_is_as_it_is_now(stores: Stores) -> None:
    await stores.spool.put("messages/1", chunks(b"abc"))
    found = await stores.inventory.object("messages/1")
    assert found is not None
    assert (found.key, found.size) == ("messages/1", 3)
    assert abs((datetime.now(UTC) - found.stored_at).total_seconds()) < 60
    await stores.spool.delete("messages/1")
    assert await stores.inventory.object("messages/1") is None


async def test_an_upload_that_nobody_goes_on_with_is_shown_until_it_is_given_up(stores: Stores) -> None:
    assert [upload async for page in stores.inventory.uploads() for upload in page] == []
    await stores.begin("messages/1")
    await stores.begin("messages/2")
    [first, second] = [upload async for page in stores.inventory.uploads() for upload in page]
    assert (first.key, second.key) == ("messages/1", "messages/2")
    # moto says that all uploads were begun in 2010.
    assert first.begun_at <= datetime.now(UTC) + timedelta(seconds=5)
    for _ in range(2):
        await stores.inventory.give_up(first)
    assert [upload async for page in stores.inventory.uploads() for upload in page] == [second]


@pytest.mark.parametrize("segments", [1, 4])
async def test_what_is_not_closed_is_shown_once_whatever_the_segments(stores: Stores, segments: int) -> None:
    expected = []
    for number in range(12):
        message = new_message(2)
        first, second = new_delivery(message, "a.example"), new_delivery(message, "b.example")
        await stores.ledger.create(message, [first, second])
        expected += [(message.message_id, "message"), (message.message_id, "delivery#b.example")]
        if number % 2:
            expected.append((message.message_id, "delivery#a.example"))
        else:
            sent = concluded(await claimed(stores.ledger, first), Event.ACCEPT, forget_at=LATER)
            await stores.ledger.record(sent, owner="a")
    items = await unclosed(stores.inventory, segments)
    assert names(items) == sorted(expected)
    assert not any(isinstance(item, Unreadable) for item in items)


async def test_items_of_a_message_follow_each_other(stores: Stores) -> None:
    for _ in range(20):
        message = new_message(3)
        await stores.ledger.create(message, [new_delivery(message, f"{n}.example") for n in range(3)])
    for segment in range(2):
        order = [item.message_id async for page in stores.inventory.unclosed(segment, 2) for item in page]
        changes = sum(1 for one, other in pairwise(order) if one != other)
        assert changes == max(len(set(order)) - 1, 0)


async def test_what_is_closed_is_not_shown_and_known_as_closed(stores: Stores) -> None:
    record = await after(stores.ledger, Event.ACCEPT, forget_at=LATER)
    await stores.ledger.settle(record.key, forget_at=LATER)
    waiting = new_message()
    await stores.ledger.create(waiting, [new_delivery(waiting)])
    assert names(await unclosed(stores.inventory)) == [
        (waiting.message_id, "delivery#example.com"),
        (waiting.message_id, "message"),
    ]
    nobody = [new_message().message_id for _ in range(150)]
    known = await stores.inventory.closed([record.message_id, waiting.message_id, *nobody])
    assert known == {record.message_id: True, waiting.message_id: False}
    assert await stores.inventory.closed([]) == {}


async def test_a_story_is_all_that_the_ledger_has_of_a_message(stores: Stores) -> None:
    message = new_message(2)
    deliveries = [new_delivery(message, "a.example"), new_delivery(message, "b.example")]
    await stores.ledger.create(message, deliveries)
    story = await stores.inventory.story(message.message_id)
    assert list(story) == [*deliveries, message]
    assert list(await stores.inventory.story(new_message().message_id)) == []


async def test_an_item_that_cannot_be_read_is_shown_as_such(stores: Stores) -> None:
    message_id = new_message().message_id
    await stores.spoil(message_id)
    [item] = await unclosed(stores.inventory)
    assert isinstance(item, Unreadable)
    assert (item.message_id, item.name) == (message_id, "message")
    assert "99" in item.fault
    assert list(await stores.inventory.story(message_id)) == [item]


async def test_stores_that_do_not_answer_are_trouble(s3: S3Client, dynamodb: DynamoDBClient) -> None:
    nowhere = AwsInventory(s3, "no-such-bucket-here", dynamodb, "no-such-table-here")
    with pytest.raises(SpoolTrouble):
        [page async for page in nowhere.objects()]
    with pytest.raises(SpoolTrouble):
        [page async for page in nowhere.uploads()]
    with pytest.raises(LedgerTrouble):
        [page async for page in nowhere.unclosed(0, 1)]
    with pytest.raises(LedgerTrouble):
        await nowhere.closed(["x"])
    with pytest.raises(LedgerTrouble):
        await nowhere.story("x")
