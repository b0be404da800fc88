"""The Suppressions contract: found in any case, in force for their time, the longer entry stays."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from empath.aws.suppressions import DynamoSuppressions
from empath.domain.errors import ControlTrouble
from empath.domain.suppression import Suppression
from empath.ports import Suppressions
from empath.testing.clock import START
from empath.testing.memory_suppressions import MemorySuppressions

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

DAY = timedelta(days=1)


def entry(address: str = "ann@example.com", days: int | None = 1, note: str = "no such user") -> Suppression:
    until = START + days * DAY if days is not None else None
    return Suppression(address=address, since=START, until=until, origin="failure", note=note)


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def suppressions(
    request: pytest.FixtureRequest, dynamodb: DynamoDBClient, control_table: str
) -> Suppressions:
    return MemorySuppressions() if request.param == "memory" else DynamoSuppressions(dynamodb, control_table)


async def test_an_address_is_found_as_it_was_asked_for_in_any_case(suppressions: Suppressions) -> None:
    assert await suppressions.find(["ann@example.com"], now=START) == {}
    assert await suppressions.add(entry())
    found = await suppressions.find(["Ann@Example.COM", "ann@example.com", "bob@example.com"], now=START)
    assert found == {"Ann@Example.COM": entry(), "ann@example.com": entry()}


async def test_an_entry_is_in_force_until_its_time(suppressions: Suppressions) -> None:
    await suppressions.add(entry())
    await suppressions.add(entry("bob@example.com", None))
    both = ["ann@example.com", "bob@example.com"]
    assert set(await suppressions.find(both, now=START + DAY - timedelta(seconds=1))) == set(both)
    assert set(await suppressions.find(both, now=START + DAY)) == {"bob@example.com"}


async def test_the_entry_that_lasts_longer_stays(suppressions: Suppressions) -> None:
    assert await suppressions.add(entry(days=2))
    assert not await suppressions.add(entry(days=2, note="again"))
    assert not await suppressions.add(entry(days=1))
    assert await suppressions.add(entry(days=3))
    assert await suppressions.add(entry(days=None))
    assert not await suppressions.add(entry(days=None, note="again"))
    assert not await suppressions.add(entry(days=4))
    assert [found async for found in suppressions.all()] == [entry(days=None)]


async def test_what_is_removed_is_gone_and_removing_again_says_so(suppressions: Suppressions) -> None:
    await suppressions.add(entry())
    assert await suppressions.remove("ANN@example.com")
    assert not await suppressions.remove("ann@example.com")
    assert await suppressions.find(["ann@example.com"], now=START) == {}


async def test_more_addresses_than_one_request_takes_are_all_found(suppressions: Suppressions) -> None:
    everybody = [f"user{number}@example.com" for number in range(130)]
    for address in everybody:
        await suppressions.add(entry(address))
    assert set(await suppressions.find(everybody + everybody, now=START)) == set(everybody)
    assert len([found async for found in suppressions.all()]) == 130


# What only the AWS adapter has.


async def test_an_item_that_cannot_be_read_stops_no_mail(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    suppressions = DynamoSuppressions(dynamodb, control_table)
    await suppressions.add(entry())
    for words in ({"schema": {"N": "9"}}, {"schema": {"N": "1"}, "since": {"S": "soon"}}, {"x": {"B": b"x"}}):
        item: Any = {"pk": {"S": "suppress#bob@example.com"}, **words}
        await dynamodb.put_item(TableName=control_table, Item=item)
        both = ["ann@example.com", "bob@example.com"]
        assert set(await suppressions.find(both, now=START)) == {"ann@example.com"}
        assert len([found async for found in suppressions.all()]) == 1


async def test_an_entry_goes_by_itself_after_its_time(dynamodb: DynamoDBClient, control_table: str) -> None:
    await DynamoSuppressions(dynamodb, control_table).add(entry())
    key = {"pk": {"S": "suppress#ann@example.com"}}
    item = (await dynamodb.get_item(TableName=control_table, Key=key))["Item"]
    assert int(item["expires_at"]["N"]) == int((START + DAY).timestamp())


async def test_trouble_is_trouble(dynamodb: DynamoDBClient) -> None:
    nowhere = DynamoSuppressions(dynamodb, "no-such-table")
    with pytest.raises(ControlTrouble):
        await nowhere.find(["ann@example.com"], now=START)
    with pytest.raises(ControlTrouble):
        await nowhere.add(entry())
    with pytest.raises(ControlTrouble):
        await nowhere.remove("ann@example.com")
    with pytest.raises(ControlTrouble):
        _ = [found async for found in nowhere.all()]


async def test_keys_that_were_left_out_are_asked_for_again_and_not_for_ever() -> None:
    class Grudging:
        calls = 0

        async def batch_get_item(self, *, RequestItems: Any) -> Any:  # noqa: N803
            self.calls += 1
            return {"Responses": {}, "UnprocessedKeys": RequestItems}

    client: Any = Grudging()
    with pytest.raises(ControlTrouble, match="left out"):
        await DynamoSuppressions(client, "control").find(["ann@example.com"], now=START)
    assert client.calls == 4
