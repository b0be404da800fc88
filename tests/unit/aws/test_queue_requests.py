"""What the SQS adapter asks for, and what it makes of half an answer: emulators give only whole ones."""

from __future__ import annotations

from typing import Any, cast

import pytest

from empath.aws.queue import MAX_BATCH, SqsJobQueue
from empath.domain.errors import QueueTrouble
from empath.ports import OutgoingJob, QueueName
from tests.unit.aws.scripted import ScriptedSqs, refusal


def queue_on(client: ScriptedSqs) -> SqsJobQueue:
    return SqsJobQueue(cast(Any, client), {QueueName.DELIVERY: "https://sqs/delivery"})


def jobs(*bodies: str) -> list[OutgoingJob]:
    return [OutgoingJob(body) for body in bodies]


async def test_ten_jobs_are_one_request_and_eleven_are_two() -> None:
    client = ScriptedSqs()
    await queue_on(client).send(QueueName.DELIVERY, jobs(*(str(number) for number in range(11))))
    assert [len(batch) for batch in client.batches] == [10, 1]


async def test_a_request_holds_no_more_octets_than_every_endpoint_takes() -> None:
    client = ScriptedSqs()
    await queue_on(client).send(
        QueueName.DELIVERY, jobs("a" * (MAX_BATCH - 1), "é", "b" * (MAX_BATCH + 1), "c")
    )
    assert [len(batch) for batch in client.batches] == [1, 1, 1, 1]


async def test_entries_that_fail_are_sent_once_more_and_only_those() -> None:
    client = ScriptedSqs(bad=1)
    await queue_on(client).send(QueueName.DELIVERY, jobs("good", "bad", "fine"))
    assert client.bodies == [["good", "bad", "fine"], ["bad"]]


async def test_an_entry_that_fails_twice_is_trouble_that_names_its_code() -> None:
    client = ScriptedSqs(bad=2)
    with pytest.raises(QueueTrouble, match=r"1 of 2 jobs were not taken: .*InternalError"):
        await queue_on(client).send(QueueName.DELIVERY, jobs("good", "bad"))


async def test_an_entry_that_the_answer_does_not_name_was_not_taken() -> None:
    client = ScriptedSqs()
    client.forgets = {"lost", "left out"}
    with pytest.raises(QueueTrouble, match=r"2 of 3 jobs were not taken: not in the answer"):
        await queue_on(client).send(QueueName.DELIVERY, jobs("good", "lost", "left out"))
    assert client.bodies == [["good", "lost", "left out"], ["lost", "left out"]]


async def test_what_was_taken_stays_so_when_the_second_try_of_its_neighbours_fails_as_a_whole() -> None:
    client = ScriptedSqs(bad=1, worse=1)
    client.troubles = [None, refusal(503, "ServiceUnavailable")]
    with pytest.raises(QueueTrouble, match=r"2 of 3 jobs .*ServiceUnavailable"):
        await queue_on(client).send(QueueName.DELIVERY, jobs("bad", "good", "worse"))


async def test_a_batch_that_fails_keeps_no_other_batch_from_being_sent() -> None:
    client = ScriptedSqs(bad=2)
    bodies = ["bad", *(str(number) for number in range(15))]
    with pytest.raises(QueueTrouble):
        await queue_on(client).send(QueueName.DELIVERY, jobs(*bodies))
    assert {body for batch in client.bodies for body in batch} == set(bodies)


async def test_a_single_job_is_a_plain_request_with_its_delay_and_trace_header() -> None:
    client = ScriptedSqs()
    await queue_on(client).send(QueueName.DELIVERY, [OutgoingJob("a", delay=30, trace_header="Root=1-2-3")])
    assert client.batches == [
        [
            {
                "MessageBody": "a",
                "DelaySeconds": 30,
                "MessageSystemAttributes": {
                    "AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2-3"}
                },
            }
        ]
    ]


async def test_delay_and_trace_header_are_attributes_of_their_own_entry() -> None:
    client = ScriptedSqs()
    await queue_on(client).send(
        QueueName.DELIVERY, [OutgoingJob("a", delay=30, trace_header="Root=1-2-3"), OutgoingJob("b")]
    )
    assert client.batches == [
        [
            {
                "Id": "0",
                "MessageBody": "a",
                "DelaySeconds": 30,
                "MessageSystemAttributes": {
                    "AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2-3"}
                },
            },
            {"Id": "1", "MessageBody": "b"},
        ]
    ]


async def test_each_entry_has_the_group_of_its_own_job() -> None:
    client = ScriptedSqs()
    await queue_on(client).send(
        QueueName.DELIVERY, [OutgoingJob("a", group="shop"), OutgoingJob("b", group="-"), OutgoingJob("c")]
    )
    assert client.batches == [
        [
            {"Id": "0", "MessageBody": "a", "MessageGroupId": "shop"},
            {"Id": "1", "MessageBody": "b", "MessageGroupId": "-"},
            {"Id": "2", "MessageBody": "c"},
        ]
    ]
