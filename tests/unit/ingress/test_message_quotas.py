"""Message quotas: the limit holds for all tasks together, few messages ask the store, trouble stops none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address

import pytest

from empath.domain.errors import ControlTrouble
from empath.domain.network import IPAddress
from empath.domain.user import User
from empath.ingress import quotas as quotas_module
from empath.ingress.quotas import MessageQuotas
from empath.testing.clock import START, ManualClock
from empath.testing.faults import Faults
from empath.testing.memory_quotas import MemoryQuotas
from empath.testing.metrics import CountedMetrics

CLIENT = ip_address("192.0.2.1")
ANN = User(name="ann", domains=("*",), created_at=START)


class Deployment:
    """Tasks that share a store."""

    def __init__(
        self,
        tasks: int = 1,
        *,
        per_network: int | None = None,
        per_user: int | None = None,
        max_keys: int = 100,
    ) -> None:
        self.clock, self.metrics, self.faults = ManualClock(), CountedMetrics(), Faults()
        self.store = MemoryQuotas()
        wrapped = self.faults.wrap("quotas", self.store, ControlTrouble)
        self.tasks: Sequence[MessageQuotas] = [
            MessageQuotas(
                wrapped,
                self.clock,
                self.metrics,
                per_network=per_network,
                per_user=per_user,
                max_keys=max_keys,
            )
            for _ in range(tasks)
        ]

    @property
    def asked(self) -> int:
        return len(self.faults.calls)

    async def send(
        self, messages: int = 1, *, client: IPAddress | None = None, user: User | None = None, task: int = 0
    ) -> int:
        """How many of so many messages pass."""
        quotas = self.tasks[task]
        passed = 0
        for _ in range(messages):
            if quotas.take_local(client=client, user=user):
                passed += 1
            else:
                passed += await quotas.refusal(client=client, user=user) is None
        return passed


async def test_without_limits_everything_passes_and_nobody_is_asked() -> None:
    deployment = Deployment()
    assert await deployment.send(1000, client=CLIENT, user=ANN) == 1000
    assert deployment.asked == 0
    assert len(deployment.tasks[0]) == 0


@pytest.mark.parametrize("limit", [1, 2, 19, 20, 21, 100, 999, 5000])
@pytest.mark.parametrize("whose", ["network", "user", "own"])
async def test_exactly_the_limit_passes_in_an_hour(limit: int, whose: str) -> None:
    deployment = Deployment(
        per_network=limit if whose == "network" else None,
        per_user={"user": limit, "own": 7, "network": None}[whose],
    )
    user = ANN.model_copy(update={"messages_per_hour": limit}) if whose == "own" else ANN
    assert await deployment.send(limit + 50, client=CLIENT, user=user) == limit
    deployment.clock.advance(3599)
    assert await deployment.send(client=CLIENT, user=user) == 0
    deployment.clock.advance(1)
    assert await deployment.send(limit + 50, client=CLIENT, user=user) == limit


@pytest.mark.parametrize(("limit", "asked"), [(20, 21), (1000, 21), (2000, 21), (10_000, 101)])
async def test_the_store_is_asked_for_blocks_and_no_more_once_there_is_nothing_left(
    limit: int, asked: int
) -> None:
    deployment = Deployment(per_user=limit)
    await deployment.send(limit + 1000, user=ANN)
    assert deployment.asked == asked


async def test_tasks_share_a_limit_but_for_what_each_holds_unused() -> None:
    deployment = Deployment(5, per_network=1000)
    passed = 0
    for _ in range(400):
        for task in range(5):
            passed += await deployment.send(client=CLIENT, task=task)
    assert passed == 1000
    deployment.clock.advance(3600)
    for task in range(5):
        assert await deployment.send(client=CLIENT, task=task) == 1
    assert await deployment.send(2000, client=CLIENT) == 1000 - 4 * 50 - 1


async def test_at_once_no_more_pass_than_one_after_the_other() -> None:
    deployment = Deployment(per_network=200, per_user=100)
    quotas = deployment.tasks[0]
    answers = await asyncio.gather(*(quotas.refusal(client=CLIENT, user=ANN) for _ in range(300)))
    assert answers.count(None) == 100
    assert deployment.asked <= 20 + 20 + 2


async def test_a_message_counts_for_its_network_and_for_its_user() -> None:
    deployment = Deployment(per_network=30, per_user=20)
    bob = ANN.model_copy(update={"name": "bob"})
    assert await deployment.send(25, client=CLIENT, user=ANN) == 20
    assert await deployment.send(25, client=CLIENT, user=bob) == 10
    assert await deployment.send(25, client=ip_address("192.0.2.2"), user=bob) == 10
    assert await deployment.send(client=CLIENT) == 0


async def test_what_one_limit_refuses_does_not_count_against_the_other() -> None:
    deployment = Deployment(per_network=100, per_user=10)
    assert await deployment.send(50, client=CLIENT, user=ANN) == 10
    assert await deployment.send(100, client=CLIENT) == 90


async def test_addresses_of_one_64_are_one_network() -> None:
    deployment = Deployment(per_network=10)
    for number in range(20):
        await deployment.send(client=ip_address(f"2001:db8::{number:x}"))
    assert await deployment.send(client=ip_address("2001:db8::ffff")) == 0
    assert await deployment.send(client=ip_address("2001:db8:0:1::1")) == 1


async def test_a_network_without_limit_is_not_counted() -> None:
    deployment = Deployment(per_network=1)
    assert await deployment.send(10, client=None) == 10


async def test_the_refusal_names_the_limit_and_the_time() -> None:
    deployment = Deployment(per_network=1, per_user=2)
    deployment.clock.advance(600)
    quotas = deployment.tasks[0]
    assert await deployment.send(client=CLIENT) == 1
    assert str(await quotas.refusal(client=CLIENT, user=None)) == (
        "450 4.7.1 Limit of 1 messages an hour reached for network 192.0.2.1; try again after 13:00 UTC"
    )
    assert await deployment.send(2, user=ANN) == 2
    assert str(await quotas.refusal(client=None, user=ANN)) == (
        "450 4.7.1 Limit of 2 messages an hour reached for this user; try again after 13:00 UTC"
    )
    assert deployment.metrics.counts["quota_refused"] == 2


async def test_a_limit_that_is_raised_takes_effect_in_the_same_hour_and_sessions_of_before_burn_nothing() -> (
    None
):
    deployment = Deployment()
    before, after = (ANN.model_copy(update={"messages_per_hour": limit}) for limit in (10, 100))
    passed = await deployment.send(20, user=before)
    assert passed == 10
    for _ in range(200):
        passed += await deployment.send(user=before)
        passed += await deployment.send(user=after)
    assert passed == 100


async def test_who_is_forgotten_is_counted_nevertheless() -> None:
    deployment = Deployment(per_network=1000, max_keys=2)
    clients = [ip_address(f"192.0.2.{number}") for number in range(3)]
    for _ in range(10):
        for client in clients:
            assert await deployment.send(client=client) == 1
            assert len(deployment.tasks[0]) <= 2
    assert min(deployment.store.taken.values()) == 10 * 50


async def test_trouble_with_the_store_stops_no_mail_up_to_what_the_limit_is_for_one_task() -> None:
    deployment = Deployment(2, per_user=100)
    assert await deployment.send(5, user=ANN) == 5
    deployment.faults.fail("quotas.take", times=None)
    assert await deployment.send(200, user=ANN) == 95
    assert await deployment.send(200, user=ANN, task=1) == 100
    assert deployment.metrics.counts["quota_unknown"] > 0


async def test_a_store_in_trouble_is_left_in_peace_for_a_while_and_then_counts_again() -> None:
    deployment = Deployment(per_user=1000, per_network=1000)
    deployment.faults.fail("quotas.take", times=None)
    await deployment.send(500, client=CLIENT, user=ANN)
    assert deployment.asked == 1
    deployment.clock.advance(10)
    deployment.faults.heal()
    assert await deployment.send(600, client=CLIENT, user=ANN) == 600
    assert deployment.asked > 10


async def test_a_store_that_does_not_answer_is_in_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas_module, "ANSWER_WITHIN", 0.01)

    class Silent:
        async def take(self, key: str, wanted: int, *, limit: int, window: timedelta, now: datetime) -> int:
            await asyncio.sleep(60)
            return wanted

    metrics = CountedMetrics()
    quotas = MessageQuotas(Silent(), ManualClock(), metrics, per_user=100)
    async with asyncio.timeout(10):
        assert await quotas.refusal(client=None, user=ANN) is None
        assert await quotas.refusal(client=CLIENT, user=ANN) is None
    assert metrics.counts["quota_unknown"] == 1
