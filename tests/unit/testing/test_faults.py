"""Faults strike where they are told to, before the effect or after it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from empath.domain.errors import QueueTrouble, SpoolTrouble
from empath.ports import OutgoingJob, QueueName
from empath.testing.clock import ManualClock
from empath.testing.faults import AFTER, BEFORE, Faults, When, WorkerDied
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool

DELIVERY = QueueName.DELIVERY


@pytest.mark.parametrize(("when", "stored"), [(BEFORE, 0), (AFTER, 1)])
async def test_a_fault_strikes_before_or_after_the_effect(when: When, stored: int) -> None:
    faults = Faults()
    queue = MemoryJobQueue(ManualClock())
    faults.fail("queue.send", when=when)
    with pytest.raises(QueueTrouble, match=f"injected {when} queue.send"):
        await faults.wrap("queue", queue, QueueTrouble).send(DELIVERY, [OutgoingJob("job")])
    assert len(queue.pending(DELIVERY)) == stored


async def test_a_fault_waits_for_its_turn_and_ends() -> None:
    faults = Faults()
    queue = faults.wrap("queue", MemoryJobQueue(ManualClock()), QueueTrouble)
    faults.fail("queue.send", after_calls=1, times=2)
    outcomes = []
    for _ in range(4):
        try:
            await queue.send(DELIVERY, [OutgoingJob("job")])
            outcomes.append("sent")
        except QueueTrouble:
            outcomes.append("trouble")
    assert outcomes == ["sent", "trouble", "trouble", "sent"]
    assert faults.calls == ["queue.send"] * 4


async def test_a_fault_may_choose_its_calls_and_stay_until_it_is_healed() -> None:
    faults = Faults()
    queue = faults.wrap("queue", MemoryJobQueue(ManualClock()), QueueTrouble)
    faults.fail("queue.send", times=None, matching=lambda name, jobs: name == QueueName.RETRY)
    await queue.send(DELIVERY, [OutgoingJob("job")])
    for _ in range(3):
        with pytest.raises(QueueTrouble):
            await queue.send(QueueName.RETRY, [OutgoingJob("job")])
    faults.heal()
    await queue.send(QueueName.RETRY, [OutgoingJob("job")])


async def test_a_worker_can_die_where_no_handler_catches_it() -> None:
    faults = Faults()
    queue = faults.wrap("queue", MemoryJobQueue(ManualClock()), QueueTrouble)
    faults.fail("queue.send", error=WorkerDied())
    with pytest.raises(WorkerDied):
        await queue.send(DELIVERY, [OutgoingJob("job")])


@pytest.mark.parametrize(("when", "expected"), [(BEFORE, 0), (AFTER, 2)])
async def test_a_stream_breaks_before_it_begins_or_after_its_first_chunk(when: When, expected: int) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"abcd"

    faults = Faults()
    spool = MemorySpool(chunk=2)
    await spool.put("key", content())
    faults.fail("spool.read", when=when)
    octets = b""
    with pytest.raises(SpoolTrouble):
        async for chunk in faults.wrap("spool", spool, SpoolTrouble).read("key"):
            octets += chunk
    assert len(octets) == expected


def test_what_is_not_asynchronous_is_left_alone() -> None:
    faults = Faults()
    queue = faults.wrap("queue", MemoryJobQueue(ManualClock()), QueueTrouble)
    faults.fail("queue.receive")
    assert queue.receive(DELIVERY) == []
