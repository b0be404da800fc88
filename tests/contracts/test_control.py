"""The Control contract: policies merge, wrong ones never take effect, old ones last 30 seconds at most."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import pytest_asyncio

from empath.aws.attributes import encode_item
from empath.aws.control import FRESH_FOR, DynamoControl
from empath.domain.errors import ControlTrouble, InvalidPolicy
from empath.domain.policy import DomainPolicy, UnknownPolicy
from empath.domain.report_policy import TenantPolicy
from empath.ports import Control
from empath.testing.clock import ManualClock
from empath.testing.faults import Faults
from empath.testing.memory_control import MemoryControl
from empath.testing.metrics import CountedMetrics

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Bench(Protocol):
    """A Control with somebody who writes items behind its back."""

    port: Control
    metrics: CountedMetrics

    async def write(self, domain: str, settings: Any) -> None: ...

    async def remove(self, domain: str) -> None: ...

    def wait(self) -> None:
        """Let everything that is known grow old."""


class MemoryBench:
    def __init__(self) -> None:
        self.metrics = CountedMetrics()
        self._control = MemoryControl(metrics=self.metrics)
        self.port: Control = self._control

    async def write(self, domain: str, settings: Any) -> None:
        tenant = domain.removeprefix("tenant:")
        if tenant != domain:
            self._control.tenants[tenant] = settings
        else:
            self._control.items[domain] = settings

    async def remove(self, domain: str) -> None:
        del self._control.items[domain]

    def wait(self) -> None:
        """Nothing is kept."""


class DynamoBench:
    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self.metrics = CountedMetrics()
        self.clock = ManualClock()
        self._client = client
        self._table = table
        self.port: Control = DynamoControl(client, table, clock=self.clock, metrics=self.metrics)

    async def write(self, domain: str, settings: Any) -> None:
        item = encode_item({"pk": f"policy#{domain}", "schema": 1, "settings": settings})
        await self._client.put_item(TableName=self._table, Item=item)

    async def remove(self, domain: str) -> None:
        await self._client.delete_item(TableName=self._table, Key={"pk": {"S": f"policy#{domain}"}})

    def wait(self) -> None:
        self.clock.advance(FRESH_FOR.total_seconds())


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def bench(request: pytest.FixtureRequest, dynamodb: DynamoDBClient, control_table: str) -> Bench:
    if request.param == "memory":
        return MemoryBench()
    return DynamoBench(dynamodb, control_table)


async def test_without_items_the_defaults_are_in_force(bench: Bench) -> None:
    assert await bench.port.policy("example.com") == DomainPolicy()


async def test_a_domain_counts_over_every_domain_field_by_field(bench: Bench) -> None:
    await bench.port.set_policy("*", {"port": 2525, "retry": {"first_delay": 2, "max_attempts": 7}})
    await bench.port.set_policy("example.com", {"tls": "disabled", "retry": {"first_delay": 2.5}})
    policy = await bench.port.policy("example.com")
    assert (policy.port, policy.tls) == (2525, "disabled")
    assert (policy.retry.first_delay, policy.retry.max_attempts) == (2.5, 7)
    assert (await bench.port.policy("example.net")).tls == "opportunistic"


async def test_domains_know_no_case(bench: Bench) -> None:
    await bench.port.set_policy("Example.COM", {"port": 26})
    assert (await bench.port.policy("eXample.com")).port == 26


async def test_networks_lists_and_unicode_domains_are_carried(bench: Bench) -> None:
    settings = {"allow_addresses": ["127.0.0.0/8", "::1/128"]}
    await bench.port.set_policy("例え.jp", settings)
    networks = (await bench.port.policy("例え.jp")).allow_addresses
    assert [str(network) for network in networks] == ["127.0.0.0/8", "::1/128"]


async def test_a_new_policy_replaces_the_whole_old_one(bench: Bench) -> None:
    await bench.port.set_policy("example.com", {"port": 26, "tls": "required"})
    await bench.port.set_policy("example.com", {"port": 27})
    policy = await bench.port.policy("example.com")
    assert (policy.port, policy.tls) == (27, "opportunistic")


@pytest.mark.parametrize(
    "settings",
    [{"port": 0}, {"ports": 25}, {"retry": {"first_delay": 100_000}}, {"allow_addresses": ["localhost"]}],
)
async def test_an_invalid_policy_is_refused_and_nothing_is_written(bench: Bench, settings: Any) -> None:
    await bench.port.set_policy("example.com", {"port": 26})
    with pytest.raises(InvalidPolicy, match=next(iter(settings))):
        await bench.port.set_policy("example.com", settings)
    bench.wait()
    assert (await bench.port.policy("example.com")).port == 26


async def test_what_is_written_is_judged_together_with_every_domain(bench: Bench) -> None:
    await bench.port.set_policy("*", {"retry": {"max_delay": 60}})
    with pytest.raises(InvalidPolicy, match="retry"):
        await bench.port.set_policy("example.com", {"retry": {"first_delay": 61}})


async def test_an_invalid_item_leaves_the_last_good_one_in_force_and_is_counted(bench: Bench) -> None:
    await bench.port.set_policy("example.com", {"port": 26})
    assert (await bench.port.policy("example.com")).port == 26
    await bench.write("example.com", {"port": "many"})
    bench.wait()
    assert (await bench.port.policy("example.com")).port == 26
    assert bench.metrics.counts["invalid_policy"] == 1
    await bench.write("example.com", {"port": 27})
    bench.wait()
    assert (await bench.port.policy("example.com")).port == 27


async def test_a_domain_whose_item_never_was_good_has_no_known_policy_until_it_is(bench: Bench) -> None:
    """It may say that mail must not leave in plain, or by mail exchangers; the defaults would let it."""
    await bench.write("*", {"port": 2525})
    await bench.write("example.com", {"tls": "requird", "route": {"kind": "sink"}})
    policy = await bench.port.policy("example.com")
    assert isinstance(policy, UnknownPolicy)
    assert (policy.port, policy.route.kind) == (2525, "smarthost")
    assert not isinstance(await bench.port.policy("example.org"), UnknownPolicy)
    await bench.write("example.com", {"tls": "required"})
    bench.wait()
    assert await bench.port.policy("example.com") == DomainPolicy(port=2525, tls="required")


async def test_an_invalid_policy_of_every_domain_leaves_none_known(bench: Bench) -> None:
    await bench.write("*", {"tls": "perhaps"})
    await bench.write("example.com", {"port": 26})
    assert isinstance(await bench.port.policy("example.com"), UnknownPolicy)
    await bench.remove("*")
    bench.wait()
    assert await bench.port.policy("example.com") == DomainPolicy(port=26)


async def test_a_removed_item_is_no_longer_in_force(bench: Bench) -> None:
    await bench.port.set_policy("example.com", {"port": 26})
    await bench.remove("example.com")
    bench.wait()
    assert await bench.port.policy("example.com") == DomainPolicy()


# Tenants.


async def test_without_items_a_tenant_has_the_defaults(bench: Bench) -> None:
    for tenant in ("shop", None, "*"):
        assert await bench.port.tenant_policy(tenant) == TenantPolicy()


async def test_a_tenant_counts_over_every_tenant_field_by_field_and_has_nothing_of_a_domain(
    bench: Bench,
) -> None:
    await bench.port.set_policy("*", {"port": 2525})
    await bench.port.set_policy("shop", {"port": 26})
    template = {"subject": "On $relay: $subject"}
    await bench.port.set_tenant_policy("*", {"reports": {"max_per_hour": 5, "template": template}})
    await bench.port.set_tenant_policy("shop", {"reports": {"send_to": "bounces@shop.example"}})
    shop = (await bench.port.tenant_policy("shop")).reports
    assert (shop.max_per_hour, str(shop.send_to), shop.template.subject) == (
        5,
        "bounces@shop.example",
        "On $relay: $subject",
    )
    for tenant in ("bank", None):
        others = (await bench.port.tenant_policy(tenant)).reports
        assert (others.max_per_hour, others.send_to) == (5, None)


async def test_tenants_know_case(bench: Bench) -> None:
    await bench.port.set_tenant_policy("Shop", {"reports": {"enabled": False}})
    assert not (await bench.port.tenant_policy("Shop")).reports.enabled
    assert (await bench.port.tenant_policy("shop")).reports.enabled


@pytest.mark.parametrize(
    ("reports", "told"),
    [
        ({"template": {"body": "Dear $sender"}}, r"reports.template.body.*unknown field \$sender"),
        ({"send_to": "x"}, "reports.send_to"),
    ],
)
async def test_an_invalid_tenant_policy_is_refused_and_nothing_is_written(
    bench: Bench, reports: Any, told: str
) -> None:
    await bench.port.set_tenant_policy("shop", {"reports": {"max_per_hour": 7}})
    with pytest.raises(InvalidPolicy, match=told):
        await bench.port.set_tenant_policy("shop", {"reports": reports})
    bench.wait()
    assert (await bench.port.tenant_policy("shop")).reports.max_per_hour == 7


async def test_a_template_that_goes_wrong_leaves_the_last_good_one_in_force(bench: Bench) -> None:
    await bench.port.set_tenant_policy("shop", {"reports": {"template": {"body": "$recipients"}}})
    await bench.port.tenant_policy("shop")
    await bench.write("tenant:shop", {"reports": {"template": {"body": "$recipient"}}})
    bench.wait()
    assert (await bench.port.tenant_policy("shop")).reports.template.body == "$recipients"
    assert bench.metrics.counts["invalid_policy"] == 1


# What only a cache has.


class Reads:
    """The calls that the adapter makes, as coroutine functions, which the client's own are not."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client

    async def get_item(self, **request: Any) -> Any:
        return await self._client.get_item(**request)

    async def put_item(self, **request: Any) -> Any:
        return await self._client.put_item(**request)


def faulty(faults: Faults, client: DynamoDBClient) -> Any:
    return faults.wrap("dynamodb", Reads(client), ControlTrouble)


async def test_an_item_is_read_once_in_thirty_seconds_however_many_ask(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    faults = Faults()
    clock = ManualClock()
    control = DynamoControl(
        faulty(faults, dynamodb),
        control_table,
        clock=clock,
        metrics=CountedMetrics(),
    )
    await asyncio.gather(*(control.policy("example.com") for _ in range(20)))
    clock.advance(29.9)
    await control.policy("example.com")
    assert faults.calls == ["dynamodb.get_item"] * 2
    clock.advance(0.1)
    await control.policy("example.com")
    await control.policy("example.net")
    assert faults.calls == ["dynamodb.get_item"] * 5


async def test_trouble_leaves_what_is_known_in_force_and_is_raised_where_nothing_is(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    faults, clock, metrics = Faults(), ManualClock(), CountedMetrics()
    control = DynamoControl(faulty(faults, dynamodb), control_table, clock=clock, metrics=metrics)
    await control.set_policy("example.com", {"port": 26})
    await control.policy("example.com")
    faults.fail("dynamodb.get_item", times=None, error=TimeoutError())
    clock.advance(60)
    assert (await control.policy("example.com")).port == 26
    assert metrics.counts["stale_policy"] == 2
    with pytest.raises(ControlTrouble):
        await control.policy("example.net")


@pytest.mark.parametrize(
    "item",
    [{"settings": "port=25"}, {}, {"settings": {}, "schema": 2}, {"settings": None}],
    ids=["text", "none", "another schema", "null"],
)
async def test_an_item_of_a_strange_shape_is_invalid_and_harmless(
    dynamodb: DynamoDBClient, control_table: str, item: dict[str, Any]
) -> None:
    await dynamodb.put_item(TableName=control_table, Item=encode_item({"pk": "policy#example.com", **item}))
    metrics = CountedMetrics()
    control = DynamoControl(dynamodb, control_table, clock=ManualClock(), metrics=metrics)
    assert isinstance(await control.policy("example.com"), UnknownPolicy)
    assert metrics.counts["invalid_policy"] == 1
