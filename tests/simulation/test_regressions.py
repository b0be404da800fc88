"""What the simulator found, kept: the seeds that showed it, and the scene itself, played by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from empath.domain.delivery_state import State
from empath.domain.errors import Trouble
from empath.domain.outcome import Deferred, Failed
from empath.domain.records import DeliveryKey, DeliveryRecord
from empath.domain.reply import Reply
from empath.pipeline.connection_slots import ConnectionSlot, ConnectionSlots
from empath.pipeline.gates_reach import Reach
from empath.pipeline.jobs import DsnJob
from empath.ports import Ledger
from empath.testing.clock import ManualClock
from empath.testing.faults import AFTER
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.memory_gates import MemoryGates
from empath.testing.metrics import CountedMetrics
from empath.testing.relay import MemoryRelay
from empath.testing.simulation import plan_of, run

REJECTED = "bob@reject.test"
SENDER = "ann@a.test"


def job_of(message_id: str) -> DsnJob:
    return DsnJob(message_id=message_id, delivery="delivery#reject.test", event="failed-1")


@pytest.mark.parametrize("seed", [3382, 4307])
def test_a_seed_that_once_broke_an_invariant_holds(seed: int) -> None:
    assert not run(plan_of(seed)).violations


async def test_a_late_report_job_clears_away_the_object_that_an_earlier_try_put_back() -> None:
    dialer = ScriptedDialer()
    dialer.host("reject.test").outcomes[REJECTED] = Failed(Reply.heard(550, "5.1.1 no"))
    relay = MemoryRelay(dialer=dialer)
    message_id = await relay.submit(SENDER, [REJECTED])
    await relay.run()
    (report_id,) = relay.reports_of(message_id)
    assert relay.states(report_id) == {SENDER: State.SENT}
    # A slower copy of the job had read that the report is owed; it stored the report again, and died.
    key = f"messages/{report_id}"
    relay.spool.objects[key] = b"put back"
    await relay.reporting.report(job_of(message_id))
    assert key not in relay.spool.objects


@pytest.mark.parametrize("call", ["spool.put", "queue.send"])
async def test_a_late_report_job_that_fails_leaves_nothing_of_a_settled_report(call: str) -> None:
    dialer = ScriptedDialer()
    dialer.host("reject.test").outcomes[REJECTED] = Failed(Reply.heard(550, "5.1.1 no"))
    relay = MemoryRelay(dialer=dialer)
    message_id = await relay.submit(SENDER, [REJECTED])
    await relay.run()
    record = await relay.ledger.delivery(job_of(message_id).key)
    assert record is not None
    as_it_was = record.model_copy(update={"reports": {"failed-1": "owed"}})

    class ReadLongAgo:
        async def delivery(self, key: DeliveryKey) -> DeliveryRecord:
            return as_it_was

        def __getattr__(self, name: str) -> Any:
            return getattr(relay.ledger, name)

    late = replace(relay.reporting, ledger=cast(Ledger, ReadLongAgo()))
    relay.faults.fail(call, when=AFTER)
    with pytest.raises(Trouble):
        await late.report(job_of(message_id))
    assert relay.spool.objects == {}


async def test_a_late_report_job_leaves_a_report_alone_that_is_on_its_way() -> None:
    dialer = ScriptedDialer()
    dialer.host("reject.test").outcomes[REJECTED] = Failed(Reply.heard(550, "5.1.1 no"))
    relay = MemoryRelay(dialer=dialer)
    dialer.host("a.test").outcomes[SENDER] = [Deferred(Reply.heard(451, "4.7.1 later"))]
    message_id = await relay.submit(SENDER, [REJECTED])
    await relay.run(until=lambda: bool(relay.reports_of(message_id)))
    (report_id,) = relay.reports_of(message_id)
    assert relay.states(report_id) == {SENDER: State.DEFERRED}
    await relay.reporting.report(job_of(message_id))
    assert f"messages/{report_id}" in relay.spool.objects
    await relay.run()
    assert relay.spool.objects == {}


async def test_a_connection_given_back_at_once_does_not_take_its_site_from_who_was_about_to_ask() -> None:
    clock = ManualClock()
    slots = ConnectionSlots(Yielding(), clock, Reach(clock, CountedMetrics()))
    until = clock.now() + timedelta(minutes=1)

    async def first() -> None:
        slot = await slots.take("mx.b.test", limit=2, owner="first", until=until)
        assert slot is not None
        await slots.release(slot)

    async def second() -> ConnectionSlot | None:
        return await slots.take("mx.b.test", limit=2, owner="second", until=until)

    _, slot = await asyncio.gather(first(), second())
    assert slot is not None
    await slots.release(slot)


class Yielding(MemoryGates):
    """Whoever asks the store lets others go on meanwhile."""

    async def take_connection(self, site: str, **asked: Any) -> int | None:
        await asyncio.sleep(0)
        return await super().take_connection(site, **asked)
