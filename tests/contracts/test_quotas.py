"""The Quotas contract: never more than the limit in a window, whoever asks and however often."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from empath.aws.quotas import DynamoQuotas
from empath.domain.errors import ControlTrouble
from empath.ports import Quotas
from empath.ports.quotas import window_start
from empath.testing.clock import START
from empath.testing.memory_quotas import MemoryQuotas

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOUR = timedelta(hours=1)


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def quotas(request: pytest.FixtureRequest, dynamodb: DynamoDBClient, control_table: str) -> Quotas:
    return MemoryQuotas() if request.param == "memory" else DynamoQuotas(dynamodb, control_table)


async def take(quotas: Quotas, wanted: int, *, key: str = "k", limit: int = 10, later: float = 0) -> int:
    now = START + timedelta(seconds=later)
    return await quotas.take(key, wanted, limit=limit, window=HOUR, now=now)


async def test_what_is_asked_for_is_granted_until_the_limit(quotas: Quotas) -> None:
    assert [await take(quotas, 4) for _ in range(5)] == [4, 4, 2, 0, 0]


async def test_at_once_no_more_is_granted_than_one_after_the_other(quotas: Quotas) -> None:
    granted = await asyncio.gather(*(take(quotas, 3, limit=50) for _ in range(30)))
    assert sum(granted) == 50
    assert set(granted) <= {0, 2, 3}


@pytest.mark.parametrize(("wanted", "limit"), [(0, 10), (-1, 10), (3, 0), (3, -5)])
async def test_nothing_is_granted_where_nothing_is_wanted_or_allowed(
    quotas: Quotas, wanted: int, limit: int
) -> None:
    assert await take(quotas, wanted, limit=limit) == 0
    assert await take(quotas, 10) == 10


async def test_keys_do_not_share(quotas: Quotas) -> None:
    assert await take(quotas, 10, key="user#ann") == 10
    assert await take(quotas, 10, key="network#2001:db8::/64") == 10
    assert await take(quotas, 1, key="user#ann") == 0


async def test_a_new_window_starts_anew(quotas: Quotas) -> None:
    assert await take(quotas, 10) == 10
    assert await take(quotas, 1, later=3599.999) == 0
    assert await take(quotas, 7, later=3600) == 7
    assert await take(quotas, 7, later=7199) == 3


async def test_a_limit_that_is_raised_counts_at_once(quotas: Quotas) -> None:
    assert await take(quotas, 10) == 10
    assert await take(quotas, 10, limit=15) == 5


async def test_a_limit_that_is_lowered_grants_nothing_more(quotas: Quotas) -> None:
    assert await take(quotas, 10) == 10
    assert await take(quotas, 1, limit=5) == 0


@pytest.mark.parametrize(
    ("now", "start"),
    [
        (datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 1, 12, tzinfo=UTC)),
        (datetime(2026, 3, 1, 12, 59, 59, 999_999, tzinfo=UTC), datetime(2026, 3, 1, 12, tzinfo=UTC)),
    ],
)
async def test_windows_are_the_same_for_everybody(now: datetime, start: datetime) -> None:
    assert window_start(now, HOUR) == start


# What only the AWS adapter has.


async def test_an_item_goes_by_itself_and_grows_no_more_at_the_limit(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    quotas = DynamoQuotas(dynamodb, control_table)
    for _ in range(5):
        await take(quotas, 6, key="user#ann")
    key = {"pk": {"S": "quota#user#ann#2026-03-01T12:00:00.000Z"}}
    item = (await dynamodb.get_item(TableName=control_table, Key=key))["Item"]
    assert item["asked"] == {"N": "12"}
    assert int(item["expires_at"]["N"]) == int((START + 2 * HOUR).timestamp())


async def test_trouble_is_trouble(control_table: str) -> None:
    class Dead:
        async def update_item(self, **_: Any) -> Any:
            raise TimeoutError

    dead: Any = Dead()
    with pytest.raises(ControlTrouble, match="quota"):
        await take(DynamoQuotas(dead, control_table), 1)
