"""Group commit: senders share requests, and nothing else: neither their troubles nor their end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from empath.aws import group_commit
from empath.aws.group_commit import GroupCommit
from empath.aws.queue import MAX_BATCH
from empath.domain.errors import QueueTrouble
from empath.ports import OutgoingJob, QueueName
from tests.unit.aws.scripted import ScriptedSqs, refusal

ACCEPTED = QueueName.ACCEPTED
NEVER = 3600.0
"""A patience that no test waits for the end of."""


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a request is like tells nothing about the next, except where a test says so."""
    monkeypatch.setattr(group_commit, "MEMORY", 0.0)


class Bench:
    def __init__(self, patience: float = NEVER, **refusals: int) -> None:
        self.client = ScriptedSqs(**refusals)
        self.on_the_way = 1
        self.queue = GroupCommit(
            cast(Any, self.client),
            {name: f"https://sqs/{name}" for name in QueueName},
            on_the_way=lambda: self.on_the_way,
            patience=patience,
        )

    def sender(self, body: str, queue: QueueName = ACCEPTED) -> asyncio.Task[None]:
        return asyncio.create_task(self.queue.send(queue, [OutgoingJob(body)]))

    async def senders(self, *bodies: str) -> list[asyncio.Task[None]]:
        """Sessions that wait for their entries."""
        tasks = [self.sender(body) for body in bodies]
        await self.settle()
        return tasks

    async def last_sender(self, body: str) -> asyncio.Task[None]:
        """The one that nobody comes after."""
        self.on_the_way = 0
        [task] = await self.senders(body)
        self.on_the_way = 1
        return task

    async def settle(self) -> None:
        """Whatever can go on without an answer of SQS and without time passing has gone on."""
        for _ in range(10):
            await asyncio.sleep(0)


async def outcomes(*tasks: asyncio.Task[None]) -> list[str]:
    answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), timeout=5)
    return ["taken" if answer is None else type(answer).__name__ for answer in answers]


async def test_a_lone_job_waits_for_nobody() -> None:
    bench = Bench()
    assert await outcomes(await bench.last_sender("lone")) == ["taken"]
    assert bench.client.bodies == [["lone"]]


async def test_jobs_wait_while_others_are_on_the_way_and_go_out_with_the_last_of_them() -> None:
    bench = Bench()
    early = await bench.senders("a", "b")
    assert bench.client.batches == []
    assert await outcomes(*early, await bench.last_sender("c")) == ["taken"] * 3
    assert bench.client.bodies == [["a", "b", "c"]]


async def test_of_a_crowd_that_was_answered_together_nobody_leaves_without_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "MEMORY", NEVER)
    bench = Bench()
    await outcomes(*await bench.senders("a", "b"), await bench.last_sender("c"))
    bench.on_the_way = 0
    crowd = await bench.senders("a", "b")
    assert len(bench.client.batches) == 1
    assert await outcomes(*crowd, *await bench.senders("c")) == ["taken"] * 3
    assert bench.client.bodies[1:] == [["a", "b", "c"]]


async def test_who_was_alone_before_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MEMORY", NEVER)
    bench = Bench()
    for body in ("a", "b", "c"):
        assert await outcomes(await bench.last_sender(body)) == ["taken"]
    assert bench.client.bodies == [["a"], ["b"], ["c"]]


async def test_ten_jobs_are_a_request_and_the_eleventh_begins_the_next() -> None:
    bench = Bench()
    tasks = await bench.senders(*(str(number) for number in range(11)))
    assert [len(batch) for batch in bench.client.batches] == [10]
    assert await outcomes(*tasks[:10]) == ["taken"] * 10
    assert not tasks[10].done()
    assert await outcomes(tasks[10], await bench.last_sender("last")) == ["taken"] * 2


async def test_what_does_not_fit_any_more_goes_with_the_next_request() -> None:
    bench = Bench()
    most, rest = "a" * (MAX_BATCH - 3), "éé"
    first = await bench.senders(most, "b")
    assert bench.client.batches == []
    await bench.senders(rest)
    assert bench.client.bodies == [[most, "b"]]
    assert await outcomes(*first) == ["taken"] * 2


async def test_nobody_waits_longer_than_patience_for_somebody_who_does_not_come() -> None:
    bench = Bench(patience=0.001)
    assert await outcomes(*await bench.senders("a", "b")) == ["taken"] * 2
    assert bench.client.bodies == [["a", "b"]]


async def test_the_timer_of_a_request_that_is_gone_does_not_send_the_next_one() -> None:
    bench = Bench(patience=0.001)
    await outcomes(*await bench.senders(*(str(number) for number in range(10))))
    bench.queue._patience = NEVER
    [late] = await bench.senders("late")
    await asyncio.sleep(0.01)
    assert not late.done()
    assert await outcomes(late, await bench.last_sender("last")) == ["taken"] * 2


async def test_a_request_that_stalls_holds_up_its_own_entries_only() -> None:
    bench = Bench()
    bench.client.gate.clear()
    stalled = await bench.senders(*(str(number) for number in range(10)))
    bench.client.gate = asyncio.Event()
    bench.client.gate.set()
    assert await outcomes(await bench.last_sender("quick")) == ["taken"]
    assert not any(task.done() for task in stalled)
    for task in stalled:
        task.cancel()


async def test_nobody_is_told_before_the_answer_is_there() -> None:
    bench = Bench()
    bench.client.gate.clear()
    tasks = [*await bench.senders("a"), await bench.last_sender("b")]
    await bench.settle()
    assert [len(batch) for batch in bench.client.batches] == [2]
    assert not any(task.done() for task in tasks)
    bench.client.gate.set()
    assert await outcomes(*tasks) == ["taken"] * 2


async def test_an_entry_that_fails_is_tried_once_more_and_then_it_is_its_own_senders_trouble() -> None:
    bench = Bench(bad=2, weak=1)
    tasks = [*await bench.senders("bad", "good", "weak"), await bench.last_sender("fine")]
    assert await outcomes(*tasks) == ["QueueTrouble", "taken", "taken", "taken"]
    assert bench.client.bodies == [["bad", "good", "weak", "fine"], ["bad", "weak"]]
    with pytest.raises(QueueTrouble, match="InternalError"):
        await tasks[0]


async def test_an_entry_that_the_answer_does_not_name_was_not_taken() -> None:
    bench = Bench()
    bench.client.forgets = {"lost", "left out"}
    tasks = [*await bench.senders("lost", "left out"), await bench.last_sender("good")]
    assert await outcomes(*tasks) == ["QueueTrouble", "QueueTrouble", "taken"]


async def test_a_request_that_fails_as_a_whole_fails_all_in_it_and_nobody_after_it() -> None:
    bench = Bench()
    bench.client.troubles = [refusal(503, "ServiceUnavailable")]
    tasks = [*await bench.senders("a"), await bench.last_sender("b")]
    assert await outcomes(*tasks) == ["QueueTrouble"] * 2
    with pytest.raises(QueueTrouble, match="ServiceUnavailable"):
        await tasks[1]
    assert await outcomes(await bench.last_sender("c")) == ["taken"]


async def test_a_sender_that_gives_up_in_time_sends_nothing_and_its_neighbours_go_on() -> None:
    bench = Bench()
    gone, stays = await bench.senders("gone", "stays")
    gone.cancel()
    assert await outcomes(gone, stays, await bench.last_sender("last")) == [
        "CancelledError",
        "taken",
        "taken",
    ]
    assert bench.client.bodies == [["stays", "last"]]


async def test_where_all_give_up_there_is_no_request() -> None:
    bench = Bench(patience=0.001)
    [gone] = await bench.senders("gone")
    gone.cancel()
    await asyncio.sleep(0.01)
    assert bench.client.batches == []


async def test_a_sender_that_gives_up_during_the_request_takes_nobody_elses_answer_with_it() -> None:
    bench = Bench()
    bench.client.gate.clear()
    [gone] = await bench.senders("gone")
    stays = await bench.last_sender("stays")
    gone.cancel()
    await bench.settle()
    bench.client.gate.set()
    assert await outcomes(gone, stays) == ["CancelledError", "taken"]
    assert bench.client.bodies == [["gone", "stays"]]


async def test_nobody_waits_for_ever_when_the_loop_is_shut_down_under_a_request() -> None:
    bench = Bench()
    bench.client.gate.clear()
    [task] = [await bench.last_sender("a")]
    for other in asyncio.all_tasks() - {task, asyncio.current_task()}:
        other.cancel()
    assert await outcomes(task) == ["CancelledError"]


async def test_many_jobs_of_one_sender_share_a_request_and_an_impossible_one_fails_them_visibly() -> None:
    bench = Bench()
    bench.on_the_way = 0
    with pytest.raises(QueueTrouble, match="1 of 3 jobs"):
        await bench.queue.send(ACCEPTED, [OutgoingJob("a"), OutgoingJob(""), OutgoingJob("b")])
    assert bench.client.bodies == [["a", "b"]]


async def test_queues_do_not_share_requests() -> None:
    bench = Bench()
    other = bench.sender("other", QueueName.DSN)
    await bench.settle()
    assert await outcomes(await bench.last_sender("ours")) == ["taken"]
    assert bench.client.bodies == [["ours"]]
    other.cancel()
