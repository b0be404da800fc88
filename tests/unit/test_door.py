"""What the doors share: a batch's jobs are worked on together, and those that they make travel together; what
is no record of the ledger's stream is refused by its name, before anything is done with its neighbours."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from empath.aws.group_commit import GroupCommit
from empath.bootstrap.ports import Ports
from empath.config.functions import FunctionConfig
from empath.domain.errors import LedgerTrouble
from empath.door import stream_changes, work_on_jobs
from empath.pipeline.jobs import AcceptedJob
from empath.ports import OutgoingJob, QueueName, ReceivedJob
from empath.testing.metrics import CountedMetrics
from tests.unit.aws.scripted import ScriptedSqs

EVENTS = Path(__file__).parents[2] / "events"
NEVER = 3600.0


def batch(jobs: int) -> dict[str, Any]:
    """The recorded event of resolve with so many jobs."""
    (record,) = json.loads((EVENTS / "resolve.json").read_text())["Records"]
    return {"Records": [{**record, "messageId": str(number)} for number in range(jobs)]}


def doors(sqs: ScriptedSqs, patience: float) -> Any:
    name = json.loads((EVENTS / "resolve.json").read_text())["Records"][0]["eventSourceARN"].rsplit(":", 1)[1]
    urls = {QueueName.ACCEPTED: f"https://sqs/{name}", QueueName.DELIVERY: "https://sqs/delivery"}
    ports = SimpleNamespace(config=SimpleNamespace(queue_urls=urls), in_hand=0)
    commit = GroupCommit(
        cast(Any, sqs), urls, on_the_way=lambda: ports.in_hand - commit.senders, patience=patience
    )
    ports.queue = commit
    return ports


async def run(ports: Any, jobs: int, failing: frozenset[str] = frozenset()) -> Any:
    async def work(job: AcceptedJob, received: ReceivedJob, queue: QueueName) -> bool:
        # As long as its writes take, which is not the same for all.
        for _ in range(int(received.message_id) % 5):
            await asyncio.sleep(0)
        if received.message_id in failing:
            raise LedgerTrouble("no answer")
        await ports.queue.send(QueueName.DELIVERY, [OutgoingJob(received.message_id)])
        return True

    return await asyncio.wait_for(work_on_jobs(batch(jobs), AcceptedJob, work, ports), timeout=5)


@pytest.mark.parametrize("jobs", [1, 3, 10])
async def test_the_jobs_that_a_batch_makes_go_out_in_one_request_and_wait_for_nobody_else(jobs: int) -> None:
    sqs = ScriptedSqs()
    assert await run(doors(sqs, NEVER), jobs) == {"batchItemFailures": []}
    assert [len(request) for request in sqs.batches] == [jobs]


async def test_a_job_that_fails_costs_the_others_no_more_than_a_moment() -> None:
    sqs = ScriptedSqs()
    # The one that fails is the last to be done, so nobody comes whom the others could leave with.
    ended = await run(doors(sqs, 0.001), 10, failing=frozenset({"4", "9"}))
    assert {failure["itemIdentifier"] for failure in ended["batchItemFailures"]} == {"4", "9"}
    assert sorted(job["MessageBody"] for request in sqs.batches for job in request) == list("01235678")


@pytest.mark.parametrize(("function", "shares"), [("resolve", True), ("deliver", False)])
async def test_only_where_every_job_makes_another_one_do_they_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch, function: str, shares: bool
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    environment = {"EMPATH_FUNCTION": function, "EMPATH_ACCEPTED_QUEUE_URL": "https://sqs.test/accepted"}
    ports = Ports(FunctionConfig.from_environment(environment), metrics=CountedMetrics())
    await ports.open("queue")
    assert isinstance(ports.queue, GroupCommit) is shares
    await ports.close()


# The stream.


def stream() -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / "journal.json").read_text())
    return event


def _of_another_schema(change: dict[str, Any]) -> None:
    change["NewImage"]["schema"] = {"N": "9"}


def _of_another_type(change: dict[str, Any]) -> None:
    change["NewImage"]["domain"] = {"B": "AAEC"}


def _without_state(change: dict[str, Any]) -> None:
    (recipient,) = change["NewImage"]["recipients"]["M"].values()
    recipient["M"]["state"] = {"S": "LOST"}


def _without_time(change: dict[str, Any]) -> None:
    del change["ApproximateCreationDateTime"]


def _without_key(change: dict[str, Any]) -> None:
    change["OldImage"]["sk"] = "delivery#example.com"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_of_another_schema, "an item of schema 9 where this release reads 1"),
        (_of_another_type, "an attribute of type B"),
        (_without_state, "recipients.alice@example.com.state"),
        (_without_time, "KeyError: 'ApproximateCreationDateTime'"),
        (_without_key, "AttributeError"),
    ],
)
def test_a_corrupt_record_of_the_stream_is_refused_by_its_place_and_key(spoil: Any, words: str) -> None:
    event = stream()
    change = event["Records"][0]["dynamodb"]
    spoil(change)
    with pytest.raises(LedgerTrouble) as refused:
        stream_changes(event)
    assert f"record {change['SequenceNumber']} (01M7YAYFG4WASBTK9J42W5J01E/delivery#" in str(refused.value)
    assert words in str(refused.value)
    # Halved by the stream until it is alone, its neighbours are as they were.
    assert stream_changes({"Records": event["Records"][1:]})


def test_whatever_is_in_a_record_it_is_read_or_refused() -> None:
    refused = 0
    for seed in range(300):
        chance, event = random.Random(seed), stream()
        for _ in range(chance.randrange(1, 4)):
            _spoil_somewhere(event["Records"][0]["dynamodb"], chance)
        try:
            assert len(stream_changes(event)) == len(event["Records"]), seed
        except LedgerTrouble as error:
            assert str(error).startswith("the stream's record "), seed
            refused += 1
    assert 100 < refused < 300


RUBBISH: tuple[Any, ...] = (
    None,
    "",
    "x",
    -1,
    1e400,
    [],
    {},
    {"S": "x"},
    {"N": "nan"},
    {"M": {}},
    {"S": "x", "N": "1"},
)


def _spoil_somewhere(place: Any, chance: random.Random) -> None:
    """Put something else in the place of a value at any depth."""
    while True:
        name = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[name], dict | list) and place[name] and chance.random() < 0.9:
            place = place[name]
            continue
        place[name] = chance.choice(RUBBISH)
        return
