"""What the SQS adapter asks for, and what it makes of half an answer: emulators give only whole ones."""

from __future__ import annotations

from typing import Any, cast

import pytest

from empath.aws.queue import MAX_BATCH, SqsJobQueue
from empath.domain.errors import QueueTrouble
from empath.ports import OutgoingJob, QueueName


class ScriptedSqs:
    """Takes batches; of each, the entries whose body is in `refusals` fail as often as it says there."""

    def __init__(self, **refusals: int) -> None:
        self.refusals = refusals
        self.batches: list[list[dict[str, Any]]] = []

    async def send_message(self, **request: Any) -> dict[str, Any]:
        del request["QueueUrl"]
        self.batches.append([request])
        return {"MessageId": "1"}

    async def send_message_batch(self, **request: Any) -> dict[str, Any]:
        self.batches.append(request["Entries"])
        failed = []
        for entry in request["Entries"]:
            if self.refusals.get(entry["MessageBody"], 0) > 0:
                self.refusals[entry["MessageBody"]] -= 1
                failed.append({"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"})
        return {"Successful": [], "Failed": failed}

    @property
    def bodies(self) -> list[list[str]]:
        return [[entry["MessageBody"] for entry in batch] for batch in self.batches]


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
    with pytest.raises(QueueTrouble, match=r"1 of 2 jobs were not taken: InternalError"):
        await queue_on(client).send(QueueName.DELIVERY, jobs("good", "bad"))


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
