"""The JobQueue contract, and the SQS semantics that the rest relies on."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Protocol

import pytest
import pytest_asyncio

from empath.aws.group_commit import GroupCommit
from empath.aws.queue import MAX_BATCH, MAX_BODY, SqsJobQueue, received_job
from empath.domain.errors import QueueTrouble
from empath.ports import JobQueue, OutgoingJob, QueueName, ReceivedJob
from empath.ports.queue import MAX_DELAY
from empath.testing.clock import ManualClock
from empath.testing.memory_queue import MemoryJobQueue

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

VISIBILITY = 2
MAX_RECEIVE_COUNT = 2
DELIVERY = QueueName.DELIVERY


class Bench(Protocol):
    """A queue with what Lambda does around it: receiving, acknowledging, and time passing."""

    port: JobQueue

    async def receive(self, queue: QueueName = DELIVERY, limit: int = 10) -> list[ReceivedJob]: ...

    async def acknowledge(self, job: ReceivedJob) -> None: ...

    async def wait(self, seconds: float) -> None: ...


class MemoryBench:
    def __init__(self) -> None:
        self._clock = ManualClock()
        self._queue = MemoryJobQueue(
            self._clock,
            visibility=VISIBILITY,
            dead_visibility=VISIBILITY,
            max_receive_count=MAX_RECEIVE_COUNT,
        )
        self.port: JobQueue = self._queue

    async def receive(self, queue: QueueName = DELIVERY, limit: int = 10) -> list[ReceivedJob]:
        return self._queue.receive(queue, limit)

    async def acknowledge(self, job: ReceivedJob) -> None:
        self._queue.delete(DELIVERY, job.receipt)

    async def wait(self, seconds: float) -> None:
        self._clock.advance(seconds)


class SqsBench:
    def __init__(self, client: SQSClient, urls: dict[QueueName, str], port: JobQueue) -> None:
        self._client = client
        self._urls = urls
        self.port: JobQueue = port

    async def receive(self, queue: QueueName = DELIVERY, limit: int = 10) -> list[ReceivedJob]:
        answer = await self._client.receive_message(
            QueueUrl=self._urls[queue], MaxNumberOfMessages=limit, MessageSystemAttributeNames=["All"]
        )
        return [received_job(message) for message in answer.get("Messages", ())]

    async def acknowledge(self, job: ReceivedJob) -> None:
        await self._client.delete_message(QueueUrl=self._urls[DELIVERY], ReceiptHandle=job.receipt)

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest_asyncio.fixture(params=["memory", "aws", "group commit"], loop_scope="session")
async def bench(request: pytest.FixtureRequest, sqs: SQSClient) -> Bench:
    if request.param == "memory":
        return MemoryBench()
    urls, dead = {}, {}
    for name in (QueueName.DELIVERY, QueueName.RETRY):
        unique = f"{name}-{uuid.uuid4().hex}"
        visibility = str(VISIBILITY)
        dead[name] = (
            await sqs.create_queue(QueueName=f"{unique}-dead", Attributes={"VisibilityTimeout": visibility})
        )["QueueUrl"]
        arn = (await sqs.get_queue_attributes(QueueUrl=dead[name], AttributeNames=["QueueArn"]))["Attributes"]
        policy = {"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": str(MAX_RECEIVE_COUNT)}
        urls[name] = (
            await sqs.create_queue(
                QueueName=unique,
                Attributes={"VisibilityTimeout": visibility, "RedrivePolicy": json.dumps(policy)},
            )
        )["QueueUrl"]
    if request.param == "aws":
        return SqsBench(sqs, urls, SqsJobQueue(sqs, urls, dead))
    return SqsBench(sqs, urls, GroupCommit(sqs, urls, dead, on_the_way=lambda: 1))


async def drain(bench: Bench) -> list[str]:
    bodies = []
    while jobs := await bench.receive():
        for job in jobs:
            await bench.acknowledge(job)
            bodies.append(job.body)
    return bodies


async def test_every_job_that_was_sent_is_received(bench: Bench) -> None:
    bodies = [f"job {number}" for number in range(23)]
    await bench.port.send(DELIVERY, [OutgoingJob(body) for body in bodies])
    assert sorted(await drain(bench)) == sorted(bodies)


async def test_sending_nothing_is_no_request(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [])
    assert await bench.receive() == []


async def test_jobs_that_fit_no_single_request_go_in_several(bench: Bench) -> None:
    bodies = [f"{number}" + "é" * (MAX_BATCH // 5) for number in range(6)]
    await bench.port.send(DELIVERY, [OutgoingJob(body) for body in bodies])
    assert sorted(await drain(bench)) == sorted(bodies)


async def test_a_body_is_carried_as_it_is(bench: Bench) -> None:
    body = '{"to":"ünïcode@例え.jp","text":"tab\\t, \U0001f4e7 and <&>\\" "}\n'
    await bench.port.send(DELIVERY, [OutgoingJob(body)])
    assert await drain(bench) == [body]


async def test_a_received_job_names_its_count_its_receipt_and_itself(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob("job")])
    [job] = await bench.receive()
    assert job.receive_count == 1
    assert job.message_id
    assert job.receipt


async def test_a_trace_header_travels_with_its_job(bench: Bench) -> None:
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
    await bench.port.send(DELIVERY, [OutgoingJob("traced", trace_header=trace)])
    [job] = await bench.receive()
    assert job.trace_header == trace


async def test_sqs_visibility_a_received_job_is_hidden_and_comes_back_counted(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob("job")])
    [first] = await bench.receive()
    assert await bench.receive() == []
    await bench.wait(VISIBILITY + 0.1)
    [second] = await bench.receive()
    assert (second.body, second.receive_count) == ("job", 2)
    assert second.receipt != first.receipt
    assert second.message_id == first.message_id


async def test_sqs_visibility_an_acknowledged_job_never_comes_back(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob("job")])
    [job] = await bench.receive()
    await bench.acknowledge(job)
    await bench.wait(VISIBILITY + 0.1)
    assert await bench.receive() == []


async def test_sqs_visibility_hiding_counts_from_now_and_may_shorten(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob("job")])
    [job] = await bench.receive()
    await bench.port.hide(DELIVERY, job.receipt, 0)
    [job] = await bench.receive()
    assert job.receive_count == 2


async def test_sqs_visibility_hiding_may_prolong(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob("job")])
    [job] = await bench.receive()
    await bench.port.hide(DELIVERY, job.receipt, VISIBILITY + 2)
    await bench.wait(VISIBILITY + 0.2)
    assert await bench.receive() == []
    await bench.wait(2)
    assert len(await bench.receive()) == 1


async def test_sqs_visibility_hiding_beyond_twelve_hours_is_refused(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob("job")])
    [job] = await bench.receive()
    with pytest.raises(QueueTrouble):
        await bench.port.hide(DELIVERY, job.receipt, 43_201)


async def test_a_receipt_that_nobody_gave_hides_nothing(bench: Bench) -> None:
    with pytest.raises(QueueTrouble):
        await bench.port.hide(DELIVERY, "no such receipt", 10)


async def test_sqs_delay_a_delayed_job_is_not_there_before_its_time(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob("later", delay=1), OutgoingJob("now")])
    assert [job.body for job in await bench.receive()] == ["now"]
    await bench.wait(1.1)
    assert [job.body for job in await bench.receive()] == ["later"]


async def test_sqs_delay_limit_is_fifteen_minutes_and_more_is_refused(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob("late", delay=MAX_DELAY)])
    with pytest.raises(QueueTrouble):
        await bench.port.send(DELIVERY, [OutgoingJob("too late", delay=MAX_DELAY + 1)])
    with pytest.raises(QueueTrouble):
        await bench.port.send(DELIVERY, [OutgoingJob("too early", delay=-1)])
    assert await bench.receive() == []


@pytest.mark.parametrize("body", ["", "x" * (MAX_BODY + 1)], ids=["empty", "too long"])
async def test_an_impossible_body_is_refused_and_its_neighbours_are_sent(bench: Bench, body: str) -> None:
    with pytest.raises(QueueTrouble):
        await bench.port.send(DELIVERY, [OutgoingJob("good"), OutgoingJob(body)])
    assert await drain(bench) == ["good"]


async def test_sqs_dead_letters_a_job_received_too_often_is_no_longer_given_out(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob("poison", trace_header="Root=1-0-0")])
    for count in range(1, MAX_RECEIVE_COUNT + 1):
        [job] = await bench.receive()
        assert job.receive_count == count
        assert await bench.port.receive_dead(DELIVERY) == []
        await bench.port.hide(DELIVERY, job.receipt, 0)
    assert await bench.receive() == []
    [dead] = await bench.port.receive_dead(DELIVERY)
    assert dead.body == "poison"


async def test_a_job_keeps_its_group_and_a_request_may_mix_them(bench: Bench) -> None:
    groups = {"a": "shop", "b": "-", "c": None, "d": "Shop~0123456789abcdef/high"}
    await bench.port.send(DELIVERY, [OutgoingJob(body, group=group) for body, group in groups.items()])
    received: dict[str, str | None] = {}
    while jobs := await bench.receive():
        received |= {job.body: job.group for job in jobs}
    assert received == groups


async def test_jobs_of_one_group_are_in_work_side_by_side(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob(str(number), group="shop") for number in range(5)])
    received: list[str] = []
    while jobs := await bench.receive():
        received += [job.body for job in jobs]
    assert sorted(received) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("group", ["two words", "", "x" * 129, "K\u00e4se"])
async def test_a_group_that_cannot_be_is_refused_alone(bench: Bench, group: str) -> None:
    with pytest.raises(QueueTrouble):
        await bench.port.send(DELIVERY, [OutgoingJob("good", group="shop"), OutgoingJob("bad", group=group)])
    assert await drain(bench) == ["good"]


async def test_sqs_dead_letters_keep_the_group(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob("poison", group="shop")])
    for _ in range(MAX_RECEIVE_COUNT + 1):
        for job in await bench.receive():
            await bench.port.hide(DELIVERY, job.receipt, 0)
    [dead] = await bench.port.receive_dead(DELIVERY)
    assert dead.group == "shop"


async def test_sqs_dead_letters_stay_until_they_are_deleted(bench: Bench) -> None:
    await bench.port.send(DELIVERY, [OutgoingJob("poison")])
    for _ in range(MAX_RECEIVE_COUNT + 1):
        for job in await bench.receive():
            await bench.port.hide(DELIVERY, job.receipt, 0)
    assert len(await bench.port.receive_dead(DELIVERY)) == 1
    assert await bench.port.receive_dead(DELIVERY) == []
    await bench.wait(VISIBILITY + 0.1)
    [dead] = await bench.port.receive_dead(DELIVERY, limit=10)
    await bench.port.delete_dead(DELIVERY, dead.receipt)
    await bench.wait(VISIBILITY + 0.1)
    assert await bench.port.receive_dead(DELIVERY) == []


async def test_queues_do_not_mix(bench: Bench) -> None:
    await bench.port.send(QueueName.RETRY, [OutgoingJob("retry")])
    assert await bench.receive(DELIVERY) == []
    assert [job.body for job in await bench.receive(QueueName.RETRY)] == ["retry"]


async def test_what_sqs_does_not_take_is_queue_trouble(sqs: SQSClient) -> None:
    url = "http://127.0.0.1:1/123456789012/no-such-queue"
    queue = SqsJobQueue(sqs, {DELIVERY: url}, {DELIVERY: url})
    answers = await asyncio.gather(
        queue.send(DELIVERY, [OutgoingJob("job")]),
        queue.hide(DELIVERY, "receipt", 1),
        queue.receive_dead(DELIVERY),
        queue.delete_dead(DELIVERY, "receipt"),
        queue.send(QueueName.DSN, [OutgoingJob("to a queue that this worker was not given")]),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [QueueTrouble] * 5
