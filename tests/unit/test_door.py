"""What the doors share: a batch's jobs are worked on together, and those that they make travel together."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from empath.aws.group_commit import GroupCommit
from empath.bootstrap.ports import Ports
from empath.config.functions import FunctionConfig
from empath.domain.errors import LedgerTrouble
from empath.door import work_on_jobs
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
