"""Destinations whose name servers do not answer keep nobody else waiting."""

from __future__ import annotations

import asyncio

import pytest

from empath.domain.delivery_state import State
from empath.domain.errors import TransientRefusal
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.pipeline import resolve
from empath.pipeline.resolve import MAX_LOOKUPS_AT_ONCE
from empath.ports import MailExchangers, QueueName
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.relay import INTERNET, MemoryRelay


class SlowResolver(ZoneResolver):
    """Lookups of `*.slow.test` come to no end while `is_slow`, and to nothing afterwards."""

    is_slow = True

    async def mail_exchangers(self, domain: str) -> MailExchangers:
        if domain.endswith("slow.test"):
            await asyncio.sleep(3600 if self.is_slow else 0)
            raise TransientRefusal(Reply.of(451, "4.4.3", "no answer in time"), Reason.DNS_TROUBLE)
        return await super().mail_exchangers(domain)


async def test_a_message_with_many_dead_name_servers_is_resolved_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolve, "LOOKUPS_WITHIN", 0.2)
    resolver = SlowResolver(INTERNET)
    relay = MemoryRelay(resolver=resolver)
    slow = [f"bob@d{number}.slow.test" for number in range(3 * MAX_LOOKUPS_AT_ONCE)]
    message_id = await relay.submit("ann@a.test", [*slow, "bob@zzz.test"])
    async with asyncio.timeout(10):
        assert await relay.work(QueueName.ACCEPTED)
    resolver.is_slow = False
    while await relay.work(QueueName.DELIVERY):
        pass
    states = relay.states(message_id)
    assert states["bob@zzz.test"] is State.SENT
    assert {states[address] for address in slow} == {State.DEFERRED}


async def test_what_is_known_in_time_is_used_although_others_are_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolve, "LOOKUPS_WITHIN", 0.2)
    relay = MemoryRelay(resolver=SlowResolver(INTERNET))
    message_id = await relay.submit("ann@a.test", ["bob@nosuch.test", "bob@d.slow.test"])
    assert await relay.work(QueueName.ACCEPTED)
    assert relay.states(message_id) == {
        "bob@nosuch.test": State.FAILED,
        "bob@d.slow.test": State.QUEUED,
    }


async def test_policies_of_many_destinations_are_read_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relay = MemoryRelay()
    reading, most = 0, 0
    read = relay.control.policy

    async def slow_policy(domain: str) -> DomainPolicy:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await asyncio.sleep(0)
        reading -= 1
        return await read(domain)

    monkeypatch.setattr(relay.control, "policy", slow_policy)
    await relay.submit("ann@a.test", [f"bob@d{number}.test" for number in range(50)])
    assert await relay.work(QueueName.ACCEPTED)
    assert most == 50
