"""Bulk mail never keeps a password reset waiting, and no tenant's mail another's."""

from __future__ import annotations

import asyncio
import smtplib
from collections import Counter

import pytest

from empath.domain.delivery_state import State
from empath.domain.envelope import Priority
from empath.domain.outcome import Deferred
from empath.domain.reply import Reply
from empath.ingress.listener import Listener, serve
from empath.ingress.priority_header import PriorityHeader
from empath.ingress.settings import LOOPBACK, IngressSettings, PortKind
from empath.pipeline.accept import Additions
from empath.pipeline.jobs import AcceptedJob, DsnJob, decode
from empath.ports import QueueName
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

BULK = 1000
LATER = Deferred(Reply.heard(451, "4.7.1 later"))


async def submit(relay: MemoryRelay, to: str, priority: Priority, tenant: str | None = None) -> str:
    additions = Additions(priority=priority, tenant=tenant)
    return await relay.submit("ann@a.test", [to], additions=additions)


async def resolved(relay: MemoryRelay) -> None:
    while await relay.work(QueueName.ACCEPTED):
        pass


def depths(relay: MemoryRelay) -> dict[str, int]:
    return {name.value: len(jobs) for name in QueueName if (jobs := relay.queue.pending(name))}


async def one_batch_of_each(relay: MemoryRelay) -> None:
    for name in QueueName:
        await relay.work(name)


async def test_one_high_behind_a_thousand_bulk_is_sent_with_the_first_batch() -> None:
    relay = MemoryRelay(dialer=ScriptedDialer())
    for _ in range(BULK):
        await submit(relay, "all@b.test", "bulk")
    reset = await submit(relay, "ann@b.test", "high")
    await resolved(relay)
    assert depths(relay) == {"delivery-bulk": BULK, "delivery-high": 1}
    await one_batch_of_each(relay)
    assert relay.states(reset) == {"ann@b.test": State.SENT}
    assert depths(relay) == {"delivery-bulk": BULK - 10}


async def test_a_retry_keeps_to_the_queue_of_its_priority() -> None:
    dialer = ScriptedDialer()
    dialer.host("b.test").outcomes["bob@b.test"] = [LATER] * 3
    relay = MemoryRelay(dialer=dialer)
    priorities: tuple[Priority, ...] = ("high", "normal", "bulk")
    for priority in priorities:
        await submit(relay, "bob@b.test", priority)
    await resolved(relay)
    assert depths(relay) == {"delivery-high": 1, "delivery": 1, "delivery-bulk": 1}
    await one_batch_of_each(relay)
    assert depths(relay) == {"delivery-high": 1, "retry": 1, "delivery-bulk": 1}
    await relay.run()
    assert {record.status for record in relay.ledger.all_deliveries()} == {State.SENT}


async def test_the_clock_wakes_each_priority_on_its_own_queue() -> None:
    dialer = ScriptedDialer()
    dialer.host("b.test").outcomes["bob@b.test"] = [LATER] * 3
    relay = MemoryRelay(dialer=dialer)
    await relay.control.set_policy("b.test", {"retry": {"first_delay": 3600, "jitter": 0}})
    priorities: tuple[Priority, ...] = ("high", "normal", "bulk")
    for priority in priorities:
        await submit(relay, "bob@b.test", priority, "shop")
    await resolved(relay)
    await one_batch_of_each(relay)
    assert depths(relay) == {}
    relay.clock.advance(3000)
    assert await relay.retry_clock.tick(lambda: 60.0) == 3
    assert depths(relay) == {"delivery-high": 1, "retry": 1, "delivery-bulk": 1}
    for name in (QueueName.DELIVERY_HIGH, QueueName.RETRY, QueueName.DELIVERY_BULK):
        assert [job.group for job in relay.queue.pending(name)] == ["shop"]


async def test_every_job_says_whose_it_is() -> None:
    relay = MemoryRelay(dialer=ScriptedDialer())
    await submit(relay, "a@b.test", "normal", "shop")
    await submit(relay, "b@b.test", "bulk", "shop")
    await submit(relay, "c@b.test", "normal")
    accepted = Counter(job.group for job in relay.queue.pending(QueueName.ACCEPTED))
    assert accepted == {"shop/normal": 1, "shop/bulk": 1, "-/normal": 1}
    await resolved(relay)
    assert {job.group for job in relay.queue.pending(QueueName.DELIVERY)} == {"shop", "-"}
    assert [job.group for job in relay.queue.pending(QueueName.DELIVERY_BULK)] == ["shop"]


async def test_reports_and_dead_letters_keep_their_group() -> None:
    relay = MemoryRelay(dialer=ScriptedDialer())
    await submit(relay, "bob@nosuch.test", "bulk", "shop")
    await resolved(relay)
    (report,) = relay.queue.pending(QueueName.DSN)
    assert decode(DsnJob, report.body)
    assert report.group == "shop"
    await submit(relay, "bob@b.test", "bulk", "shop")
    for _ in range(6):
        relay.queue.receive(QueueName.ACCEPTED)
        relay.clock.advance(100)
    assert len(relay.queue.dead(QueueName.ACCEPTED)) == 1
    assert await relay.dead_letters.sweep(lambda: 60.0) >= 1
    (again,) = relay.queue.pending(QueueName.ACCEPTED)
    assert (again.group, decode(AcceptedJob, again.body).priority) == ("shop/bulk", "bulk")


def sent_as(listener: Listener, header: str) -> None:
    with smtplib.SMTP("127.0.0.1", listener.ports[PortKind.RELAY], timeout=10) as client:
        client.sendmail("ann@a.test", ["bob@b.test"], f"{header}\r\nSubject: hi\r\n\r\nHello.\r\n")


@pytest.mark.parametrize(("is_trusted", "priority"), [(True, "high"), (False, "normal")])
async def test_a_header_says_the_priority_only_from_who_may_relay(
    is_trusted: bool, priority: Priority
) -> None:
    relay = MemoryRelay(dialer=ScriptedDialer())
    settings = IngressSettings(
        port=0,
        networks=LOOPBACK if is_trusted else (),
        relay_domains=("b.test",),
        priority_header=PriorityHeader.parse("X-Mail-Class"),
    )
    listener = await serve(settings, relay.acceptance, relay.clock, relay.ids, relay.metrics)
    try:
        await asyncio.to_thread(sent_as, listener, "X-Mail-Class: high")
    finally:
        await listener.close(grace=0)
    [job] = relay.queue.pending(QueueName.ACCEPTED)
    assert decode(AcceptedJob, job.body).priority == priority
    assert job.group == f"-/{priority}"
