"""The LostChangesQueue contract: what the journal gave up on is given again while the stream has it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from empath.aws import lost_changes
from empath.aws.lost_changes import AwsLostChanges
from empath.aws.session import AwsSession
from empath.domain.errors import JournalTrouble, QueueTrouble
from empath.door import stream_changes
from empath.ports.lost_changes import LostChanges, LostChangesQueue
from empath.testing.memory_lost_changes import MemoryLostChanges
from tests.contracts.conftest import make_deliveries_table

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_sqs import SQSClient

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Journal:
    """The journal's function, as Lambda's client shows it."""

    events: list[Any] = field(default_factory=list)
    error: str | None = None

    async def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803 (Lambda's)
        assert FunctionName == "journal"
        self.events.append(json.loads(Payload))
        answer: dict[str, Any] = {"Payload": _Body((self.error or "null").encode())}
        return answer | ({"FunctionError": "Unhandled"} if self.error else {})


@dataclass
class _Body:
    content: bytes

    async def read(self) -> bytes:
        return self.content


@dataclass
class World:
    queue: LostChangesQueue
    lose: Callable[[int, int], Any]
    """Loses the changes from one number to another of the eight that there are."""
    forgotten: Callable[[], Any]
    """Loses changes that the stream has not any more."""
    given: Callable[[], list[int]]
    """The numbers of the changes that the journal was given."""
    fail: Callable[[], None]


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def world(
    request: pytest.FixtureRequest, aws: AwsSession, dynamodb: DynamoDBClient, sqs: SQSClient
) -> World:
    if request.param == "memory":
        return _in_memory()
    return await _on_aws(aws, dynamodb, sqs)


def _in_memory() -> World:
    numbers: dict[str, range] = {}
    given: list[int] = []
    errors: list[str] = []

    async def give(lost: LostChanges) -> None:
        if errors:
            raise JournalTrouble(errors[0])
        given.extend(numbers[lost.name])

    memory = MemoryLostChanges(give)

    async def lose(first: int, last: int) -> None:
        name = uuid.uuid4().hex
        numbers[name] = range(first, last + 1)
        memory.held[name] = LostChanges(name, name, f"from {first}", last + 1 - first, None)

    async def forgotten() -> None:
        memory.held["old"] = LostChanges("old", "old", "long ago", 1, None)
        memory.gone.add("old")

    return World(memory, lose, forgotten, lambda: given, lambda: errors.append("boom"))


async def _on_aws(aws: AwsSession, dynamodb: DynamoDBClient, sqs: SQSClient) -> World:
    table = await make_deliveries_table(dynamodb)
    answer = await dynamodb.update_table(
        TableName=table, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    )
    stream = answer["TableDescription"]["LatestStreamArn"]
    for number in range(8):
        await dynamodb.put_item(TableName=table, Item={"pk": {"S": str(number)}, "sk": {"S": "other"}})
    streams = await aws.dynamodbstreams()
    [shard] = (await streams.describe_stream(StreamArn=stream))["StreamDescription"]["Shards"]
    iterator = await streams.get_shard_iterator(
        StreamArn=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )
    records = (await streams.get_records(ShardIterator=iterator["ShardIterator"]))["Records"]
    sequence = [record["dynamodb"]["SequenceNumber"] for record in records]
    url = (await sqs.create_queue(QueueName=f"journal-dead-{uuid.uuid4().hex}"))["QueueUrl"]
    journal = Journal()

    async def lose(first: int, last: int, stream_arn: str = stream) -> None:
        batch = {
            "shardId": shard["ShardId"],
            "startSequenceNumber": sequence[first],
            "endSequenceNumber": sequence[last],
            "approximateArrivalOfFirstRecord": "2026-11-21T11:00:00Z",
            "batchSize": last + 1 - first,
            "streamArn": stream_arn,
        }
        body = json.dumps({"version": "1.0", "DDBStreamBatchInfo": batch})
        await sqs.send_message(QueueUrl=url, MessageBody=body)

    async def forgotten() -> None:
        await lose(0, 0, stream.replace(table, f"gone-{table}"))

    def given() -> list[int]:
        changes = [change for event in journal.events for change in event["Records"]]
        assert len(stream_changes({"Records": changes})) == len(changes), "as the door reads them"
        return [int(change["dynamodb"]["Keys"]["pk"]["S"]) for change in changes]

    queue = AwsLostChanges(sqs, url, streams, journal, "journal")
    return World(queue, lose, forgotten, given, lambda: setattr(journal, "error", '"boom"'))


async def test_lost_changes_are_given_in_their_order_and_no_others(world: World) -> None:
    await world.lose(2, 5)
    [lost] = await world.queue.receive()
    assert (lost.count, lost.is_readable) == (4, True)
    assert await world.queue.replay(lost)
    assert world.given() == [2, 3, 4, 5]


async def test_the_last_change_of_a_stream_is_given_too(world: World) -> None:
    await world.lose(7, 7)
    [lost] = await world.queue.receive()
    assert await world.queue.replay(lost)
    assert world.given() == [7]


async def test_what_is_forgotten_is_not_received_again(world: World) -> None:
    await world.lose(0, 0)
    [lost] = await world.queue.receive()
    for _ in range(2):
        await world.queue.forget(lost)
    assert list(await world.queue.receive()) == []


async def test_changes_that_the_stream_has_not_any_more_are_not_given(world: World) -> None:
    await world.forgotten()
    [lost] = await world.queue.receive()
    assert not await world.queue.replay(lost)
    assert world.given() == []


async def test_a_journal_that_fails_again_is_trouble(world: World) -> None:
    await world.lose(0, 1)
    world.fail()
    [lost] = await world.queue.receive()
    with pytest.raises(JournalTrouble, match="boom"):
        await world.queue.replay(lost)


@pytest.mark.parametrize("world", ["aws"], indirect=True)
async def test_changes_that_are_too_much_for_one_invocation_go_in_several(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_changes, "MAX_PAYLOAD", 1000)
    await world.lose(0, 7)
    [lost] = await world.queue.receive()
    assert await world.queue.replay(lost)
    assert world.given() == list(range(8))


@pytest.mark.parametrize(
    "body", ["{", "[]", "{}", '{"DDBStreamBatchInfo": {"shardId": "s"}}', '{"DDBStreamBatchInfo": null}']
)
async def test_a_message_that_names_no_changes_is_said_to_be_unreadable(
    sqs: SQSClient, aws: AwsSession, body: str
) -> None:
    url = (await sqs.create_queue(QueueName=f"journal-dead-{uuid.uuid4().hex}"))["QueueUrl"]
    await sqs.send_message(QueueUrl=url, MessageBody=body)
    queue = AwsLostChanges(sqs, url, await aws.dynamodbstreams(), Journal(), "journal")
    [lost] = await queue.receive()
    assert not lost.is_readable
    assert "not a place in a stream" in lost.place


async def test_a_queue_that_does_not_answer_is_trouble(sqs: SQSClient, aws: AwsSession) -> None:
    nowhere = AwsLostChanges(
        sqs, "http://127.0.0.1:1/none", await aws.dynamodbstreams(), Journal(), "journal"
    )
    with pytest.raises(QueueTrouble):
        await nowhere.receive()
