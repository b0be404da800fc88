"""The Audit and Events contracts: blocks are written once, heads move one step, events are handed over."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from empath.aws.audit import S3Audit
from empath.aws.events import BridgeEvents
from empath.domain.audit import AuditRecord
from empath.domain.audit_chain import Head, Link
from empath.domain.errors import AuditTrouble, EventsTrouble
from empath.domain.lifecycle import LifecycleEvent
from empath.pipeline.audit_check import check
from empath.pipeline.audit_trail import AuditTrail
from empath.ports import Audit
from empath.testing.clock import START, ManualClock
from empath.testing.memory_audit import MemoryAudit, MemoryEvents

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client

pytestmark = pytest.mark.asyncio(loop_scope="session")

DAY = date(2026, 11, 21)


async def new_bucket(s3: S3Client) -> str:
    bucket = f"audit-{uuid.uuid4().hex}"
    await s3.create_bucket(Bucket=bucket)
    return bucket


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def audit(
    request: pytest.FixtureRequest, s3: S3Client, dynamodb: DynamoDBClient, control_table: str
) -> Audit:
    if request.param == "memory":
        return MemoryAudit()
    return S3Audit(s3, await new_bucket(s3), dynamodb, control_table)


async def test_an_object_is_written_once_and_stays_what_it_was(audit: Audit) -> None:
    assert await audit.get("audit/a") is None
    assert await audit.put_new("audit/a", b"first")
    assert not await audit.put_new("audit/a", b"second")
    assert await audit.get("audit/a") == b"first"


async def test_keys_come_in_order_and_only_those_with_the_prefix(audit: Audit) -> None:
    for key in ("audit/2", "audit/10", "other/1", "audit/1"):
        await audit.put_new(key, b"")
    assert [key async for key in audit.keys("audit/")] == ["audit/1", "audit/10", "audit/2"]
    assert [key async for key in audit.keys("nothing/")] == []


async def test_a_head_moves_on_one_block_at_a_time(audit: Audit) -> None:
    begun = Head(1, 0, DAY)
    first = Head(1, 1, DAY, Link("audit/1", "ab"), ("batch",))
    assert await audit.head(1) is None
    assert not await audit.advance(first)
    assert await audit.advance(begun)
    assert not await audit.advance(begun)
    assert await audit.head(1) == begun
    assert await audit.advance(first)
    assert not await audit.advance(first)
    assert not await audit.advance(Head(1, 3, DAY, Link("audit/3", "cd")))
    assert await audit.head(1) == first
    assert await audit.head(2) is None


async def test_a_trail_verifies_on_every_store(audit: Audit) -> None:
    clock = ManualClock(START)
    trail = AuditTrail(audit, clock)
    for number in range(3):
        await trail.append([AuditRecord(id=f"{number}/0", type="OperatorAction", at=START, action="retry")])
    assert (await check(audit)).is_sound
    assert (await check(audit)).lines == 3


# What only the AWS adapters have.


async def test_a_process_that_knows_an_old_head_finds_the_new_end(
    s3: S3Client, dynamodb: DynamoDBClient, control_table: str
) -> None:
    bucket = await new_bucket(s3)
    writers = [AuditTrail(S3Audit(s3, bucket, dynamodb, control_table), ManualClock(START)) for _ in range(2)]
    for number in range(6):
        record = AuditRecord(id=f"{number}/0", type="OperatorAction", at=START, message_id="M")
        await writers[number % 2].append([record])
        await writers[1 - number % 2].append([record])
    findings = await check(writers[0].audit)
    assert findings.is_sound
    assert findings.lines == 6


async def test_listing_goes_on_behind_the_first_thousand(
    s3: S3Client, dynamodb: DynamoDBClient, control_table: str
) -> None:
    class Pages:
        async def list_objects_v2(self, **asked: Any) -> Any:
            if "ContinuationToken" not in asked:
                return {"Contents": [{"Key": "a"}], "IsTruncated": True, "NextContinuationToken": "t"}
            return {"Contents": [{"Key": "b"}], "IsTruncated": False}

    pages: Any = Pages()
    assert [key async for key in S3Audit(pages, "b", dynamodb, control_table).keys("")] == ["a", "b"]


async def test_what_aws_does_not_take_is_audit_trouble(
    s3: S3Client, dynamodb: DynamoDBClient, control_table: str
) -> None:
    nowhere = S3Audit(s3, "no-such-bucket-here", dynamodb, "no-such-table")
    with pytest.raises(AuditTrouble):
        await nowhere.put_new("audit/a", b"")
    with pytest.raises(AuditTrouble):
        await nowhere.get("audit/a")
    with pytest.raises(AuditTrouble):
        await nowhere.head(0)
    with pytest.raises(AuditTrouble):
        await nowhere.advance(Head(0, 0, DAY))
    await dynamodb.put_item(
        TableName=control_table, Item={"pk": {"S": "audit#0"}, "schema": {"N": "2"}, "number": {"N": "1"}}
    )
    with pytest.raises(AuditTrouble, match="schema"):
        await S3Audit(s3, await new_bucket(s3), dynamodb, control_table).head(0)


def event(number: int) -> LifecycleEvent:
    return LifecycleEvent(
        id=f"{number}/0",
        type="failed",
        at=datetime(2026, 11, 21, tzinfo=UTC),
        message_id="M",
        delivery="delivery#example.com",
        domain="example.com",
        recipient=f"user{number}@example.com",
        attempt=1,
    )


class Bus:
    """PutEvents as its documentation has it; refuses what it is told to."""

    def __init__(self, *refusals: set[int]) -> None:
        self.refusals = list(refusals)
        self.calls: list[int] = []
        self.took: list[str] = []

    async def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert 1 <= len(Entries) <= 10
        refused = self.refusals.pop(0) if self.refusals else set()
        self.calls.append(len(Entries))
        said = []
        for place, entry in enumerate(Entries):
            if place in refused:
                said.append({"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"})
            else:
                self.took.append(entry["Detail"])
                said.append({"EventId": str(place)})
        return {"FailedEntryCount": len(refused & set(range(len(Entries)))), "Entries": said}


async def test_events_go_ten_to_a_request_and_all_of_them() -> None:
    bus, memory = Bus(), MemoryEvents()
    events = [event(number) for number in range(23)]
    for port in (BridgeEvents(bus, "bus"), memory):
        await port.publish(events)
    assert sorted(bus.calls) == [3, 10, 10]
    told = [LifecycleEvent.model_validate_json(detail) for detail in bus.took]
    assert sorted(told, key=str) == sorted(memory.told, key=str) == sorted(events, key=str)


async def test_only_what_the_bus_refused_is_handed_over_again() -> None:
    bus = Bus({1, 3}, {0})
    await BridgeEvents(bus, "bus").publish([event(number) for number in range(5)])
    assert bus.calls == [5, 2, 1]
    assert len(bus.took) == len(set(bus.took)) == 5


async def test_what_is_refused_to_the_end_is_trouble() -> None:
    bus = Bus({0}, {0}, {0})
    with pytest.raises(EventsTrouble, match="1 events were refused: ThrottlingException"):
        await BridgeEvents(bus, "bus").publish([event(0)])


async def test_a_bus_takes_what_is_published(aws: Any) -> None:
    client = await aws.events()
    name = f"bus-{uuid.uuid4().hex}"
    await client.create_event_bus(Name=name)
    await BridgeEvents(client, name).publish([event(number) for number in range(11)])
