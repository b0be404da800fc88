"""The Policies contract: every item is read, wrong ones too, and nobody undoes another one's change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest
import pytest_asyncio

from empath.aws.attributes import encode_item
from empath.aws.control import DynamoControl
from empath.aws.policies import DynamoPolicies
from empath.domain.errors import InvalidPolicy
from empath.ports import Control
from empath.ports.policies import Policies
from empath.testing.clock import ManualClock
from empath.testing.memory_control import MemoryControl
from empath.testing.memory_policies import MemoryPolicies
from empath.testing.metrics import CountedMetrics

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

SETTINGS = {"tls": "required", "retry": {"expiry": 86400, "jitter": 0.5}, "rate": None, "port": 587}


class Bench(Protocol):
    port: Policies
    control: Control
    """What workers read of the same items."""

    async def write(self, name: str, settings: Any) -> None:
        """Behind everybody's back."""


class MemoryBench:
    def __init__(self) -> None:
        self._control = MemoryControl()
        self.control: Control = self._control
        self.port: Policies = MemoryPolicies(self._control)

    async def write(self, name: str, settings: Any) -> None:
        tenant = name.removeprefix("tenant:")
        items = self._control.items if tenant == name else self._control.tenants
        items[tenant] = settings


class DynamoBench:
    def __init__(self, client: DynamoDBClient, table: str) -> None:
        clock = ManualClock()
        self._client, self._table = client, table
        self.port: Policies = DynamoPolicies(client, table, clock=clock)
        self.control: Control = DynamoControl(client, table, clock=clock, metrics=CountedMetrics())

    async def write(self, name: str, settings: Any) -> None:
        item = encode_item({"pk": f"policy#{name}", "settings": settings})
        await self._client.put_item(TableName=self._table, Item=item)


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def bench(request: pytest.FixtureRequest, dynamodb: DynamoDBClient, control_table: str) -> Bench:
    return MemoryBench() if request.param == "memory" else DynamoBench(dynamodb, control_table)


async def test_what_is_put_is_read_as_it_is_and_is_in_force(bench: Bench) -> None:
    assert await bench.port.get("b.test") is None
    assert await bench.port.put("b.test", SETTINGS, before=None)
    item = await bench.port.get("b.test")
    assert item is not None
    assert (item.name, item.settings, item.fault) == ("b.test", SETTINGS, None)
    assert (await bench.control.policy("b.test")).port == 587


async def test_all_are_listed_by_name_tenants_and_wrong_ones_too_and_nothing_else(bench: Bench) -> None:
    assert list(await bench.port.all()) == []
    await bench.port.put("tenant:crm", {"suppression": {"enabled": False}}, before=None)
    await bench.port.put("*", {}, before=None)
    await bench.write("b.test", "no map")
    listed = {item.name: item for item in await bench.port.all()}
    assert list(listed) == ["*", "b.test", "tenant:crm"]
    assert listed["b.test"].settings is None
    assert listed["b.test"].fault == "settings: not a map"
    assert listed["tenant:crm"].settings == {"suppression": {"enabled": False}}
    assert not (await bench.control.tenant_policy("crm")).suppression.enabled


async def test_an_item_is_replaced_only_as_it_was_read(bench: Bench) -> None:
    assert await bench.port.put("b.test", {"port": 26}, before=None)
    assert not await bench.port.put("b.test", {"port": 27}, before=None)
    known = await bench.port.get("b.test")
    assert await bench.port.put("b.test", {"port": 28}, before=known)
    assert not await bench.port.put("b.test", {"port": 29}, before=known)
    await bench.write("b.test", {"port": 30})
    known = await bench.port.get("b.test")
    await bench.write("b.test", {"port": 31})
    assert known is not None
    assert not await bench.port.delete(known)
    item = await bench.port.get("b.test")
    assert item is not None
    assert item.settings == {"port": 31}
    assert await bench.port.delete(item)
    assert await bench.port.get("b.test") is None
    assert not await bench.port.delete(item)


async def test_an_item_that_cannot_be_read_can_be_replaced_and_removed(bench: Bench) -> None:
    await bench.write("b.test", "no map")
    known = await bench.port.get("b.test")
    assert await bench.port.put("b.test", {"port": 26}, before=known)
    await bench.write("b.test", "no map")
    known = await bench.port.get("b.test")
    assert known is not None
    assert await bench.port.delete(known)


async def test_what_cannot_be_stored_is_refused(dynamodb: DynamoDBClient, control_table: str) -> None:
    port = DynamoPolicies(dynamodb, control_table, clock=ManualClock())
    with pytest.raises(InvalidPolicy):
        await port.put("b.test", {"port": object()}, before=None)
    assert await port.get("b.test") is None


async def test_an_item_without_settings_is_listed_and_can_be_replaced(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    port = DynamoPolicies(dynamodb, control_table, clock=ManualClock())
    await dynamodb.put_item(TableName=control_table, Item={"pk": {"S": "policy#b.test"}, "x": {"B": b"1"}})
    item = await port.get("b.test")
    assert item is not None
    assert item.settings is None
    assert await port.put("b.test", {}, before=item)
    assert not await port.put("b.test", {"port": 5}, before=item)


async def test_a_set_that_somebody_wrote_by_hand_is_read_as_a_list(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    port = DynamoPolicies(dynamodb, control_table, clock=ManualClock())
    settings = encode_item({"allow_addresses": {"10.1.0.0/16", "10.0.0.0/16"}})
    await dynamodb.put_item(
        TableName=control_table, Item={"pk": {"S": "policy#b.test"}, "settings": {"M": settings}}
    )
    item = await port.get("b.test")
    assert item is not None
    assert item.settings == {"allow_addresses": ["10.0.0.0/16", "10.1.0.0/16"]}
    assert await port.put("b.test", {}, before=item)
