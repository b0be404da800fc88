"""The Users contract: a name is taken once, a change replaces what it was made of, 30 s are the oldest."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import pytest_asyncio

from empath.aws.attributes import encode_item
from empath.aws.users import FRESH_FOR, DynamoUsers
from empath.domain.errors import ControlTrouble, UserConflict
from empath.domain.password import Cost, hash_password
from empath.domain.user import User
from empath.ports import Users
from empath.testing.clock import START, ManualClock
from empath.testing.faults import AFTER, Faults
from empath.testing.memory_users import MemoryUsers
from empath.testing.metrics import CountedMetrics

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

HASH = hash_password("secret", b"saltsalt", Cost(ln=1, r=1, p=1))
ANN = User(name="ann", password_hash=HASH, domains=("example.com", ".example.com"), created_at=START)
WHOLE = User(
    name="bücher@example.com",
    password_hash=HASH,
    domains=("*",),
    tenant="Team 7",
    priority="bulk",
    messages_per_hour=500,
    revoked_at=START + timedelta(milliseconds=1),
    created_at=START,
)
BY_CERTIFICATE = User(name="cert#1", created_at=START)


class Bench(Protocol):
    port: Users

    def other(self) -> Users:
        """The port of another process that knows nothing yet."""


class MemoryBench:
    def __init__(self) -> None:
        self.port: Users = MemoryUsers()

    def other(self) -> Users:
        return self.port


class DynamoBench:
    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client, self._table = client, table
        self.port: Users = self.other()

    def other(self) -> Users:
        clock, metrics = ManualClock(auto=True), CountedMetrics()
        return DynamoUsers(self._client, self._table, clock=clock, metrics=metrics)


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def bench(request: pytest.FixtureRequest, dynamodb: DynamoDBClient, control_table: str) -> Bench:
    return MemoryBench() if request.param == "memory" else DynamoBench(dynamodb, control_table)


async def test_nobody_is_known_at_first(bench: Bench) -> None:
    assert await bench.port.user("ann") is None
    assert list(await bench.port.users()) == []


@pytest.mark.parametrize("user", [ANN, WHOLE, BY_CERTIFICATE], ids=lambda user: user.name)
async def test_a_user_comes_back_as_it_was_written(bench: Bench, user: User) -> None:
    await bench.port.put_user(user)
    assert await bench.port.user(user.name) == user
    assert await bench.other().user(user.name) == user
    assert list(await bench.port.users()) == [user]


async def test_a_name_is_taken_once(bench: Bench) -> None:
    await bench.port.put_user(ANN)
    with pytest.raises(UserConflict, match="ann is there already"):
        await bench.port.put_user(ANN.model_copy(update={"domains": ("*",)}))
    assert await bench.other().user("ann") == ANN


async def test_who_was_just_written_is_known_at_once_to_who_wrote_it(bench: Bench) -> None:
    assert await bench.port.user("ann") is None
    await bench.port.put_user(ANN)
    assert await bench.port.user("ann") == ANN


@pytest.mark.parametrize(
    "change",
    [
        {"revoked_at": START},
        {"password_hash": None},
        {"domains": ()},
        {"tenant": "t", "priority": "high", "messages_per_hour": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("before", [ANN, BY_CERTIFICATE], ids=lambda user: user.name)
async def test_a_change_replaces_the_whole_record(bench: Bench, before: User, change: dict[str, Any]) -> None:
    await bench.port.put_user(before)
    after = before.model_copy(update=change)
    await bench.port.put_user(after, replacing=before)
    assert await bench.other().user(before.name) == after
    await bench.port.put_user(before, replacing=after)
    assert await bench.other().user(before.name) == before


async def test_a_change_of_what_is_no_longer_so_writes_nothing(bench: Bench) -> None:
    await bench.port.put_user(ANN)
    revoked = ANN.model_copy(update={"revoked_at": START})
    await bench.other().put_user(revoked, replacing=ANN)
    with pytest.raises(UserConflict, match="was changed by somebody else"):
        await bench.port.put_user(ANN.model_copy(update={"domains": ("*",)}), replacing=ANN)
    assert await bench.other().user("ann") == revoked


async def test_the_same_write_once_more_is_no_conflict(bench: Bench) -> None:
    """An answer may be lost and its call repeated; whoever added a user has to be told its password."""
    revoked = ANN.model_copy(update={"revoked_at": START})
    for _ in range(2):
        await bench.port.put_user(ANN)
    for _ in range(2):
        await bench.port.put_user(revoked, replacing=ANN)
    assert await bench.other().user("ann") == revoked


async def test_who_is_not_there_cannot_be_changed(bench: Bench) -> None:
    with pytest.raises(UserConflict):
        await bench.port.put_user(ANN, replacing=ANN)
    assert await bench.port.user("ann") is None


async def test_a_user_keeps_its_name(bench: Bench) -> None:
    await bench.port.put_user(ANN)
    with pytest.raises(ValueError, match="keeps its name"):
        await bench.port.put_user(BY_CERTIFICATE, replacing=ANN)


async def test_all_users_are_listed_by_name_however_many(bench: Bench) -> None:
    users = [ANN.model_copy(update={"name": f"user{number:03}"}) for number in range(120)]
    await asyncio.gather(*(bench.port.put_user(user) for user in reversed(users)))
    assert list(await bench.other().users()) == users


# What only the AWS adapter has.


class Calls:
    """The client's methods as coroutine functions, which its own are not."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client

    async def get_item(self, **request: Any) -> Any:
        return await self._client.get_item(**request)

    async def put_item(self, **request: Any) -> Any:
        return await self._client.put_item(**request)

    async def update_item(self, **request: Any) -> Any:
        return await self._client.update_item(**request)

    async def batch_get_item(self, **request: Any) -> Any:
        return await self._client.batch_get_item(**request)


class Aws:
    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self.client, self.table = client, table
        self.faults, self.clock, self.metrics = Faults(), ManualClock(), CountedMetrics()
        wrapped: Any = self.faults.wrap("dynamodb", Calls(client), ControlTrouble)
        self.users = DynamoUsers(wrapped, table, clock=self.clock, metrics=self.metrics)

    async def write(self, item: dict[str, Any]) -> None:
        await self.client.put_item(TableName=self.table, Item=encode_item(item))


@pytest_asyncio.fixture(loop_scope="session")
async def aws_users(dynamodb: DynamoDBClient, control_table: str) -> Aws:
    return Aws(dynamodb, control_table)


@pytest.mark.parametrize("name", ["ann", "nobody"])
async def test_a_user_is_read_once_in_thirty_seconds_however_many_ask(aws_users: Aws, name: str) -> None:
    await aws_users.users.put_user(ANN)
    aws_users.faults.calls.clear()
    await asyncio.gather(*(aws_users.users.user(name) for _ in range(20)))
    aws_users.clock.advance(29.9)
    await aws_users.users.user(name)
    assert aws_users.faults.calls == ["dynamodb.get_item"]
    aws_users.clock.advance(0.1)
    await aws_users.users.user(name)
    assert aws_users.faults.calls == ["dynamodb.get_item"] * 2


async def test_a_revocation_takes_effect_within_thirty_seconds(aws_users: Aws) -> None:
    await aws_users.users.put_user(ANN)
    assert await aws_users.users.user("ann") == ANN
    other = Aws(aws_users.client, aws_users.table)
    await other.users.put_user(ANN.model_copy(update={"revoked_at": START}), replacing=ANN)
    aws_users.clock.advance(FRESH_FOR.total_seconds())
    found = await aws_users.users.user("ann")
    assert found is not None
    assert found.is_revoked


async def test_trouble_is_trouble_also_when_somebody_was_known_before(aws_users: Aws) -> None:
    await aws_users.users.put_user(ANN)
    await aws_users.users.user("ann")
    aws_users.faults.fail("dynamodb.get_item", times=1, error=TimeoutError())
    aws_users.clock.advance(60)
    with pytest.raises(ControlTrouble):
        await aws_users.users.user("ann")
    assert await aws_users.users.user("ann") == ANN


async def test_a_write_that_dies_half_way_leaves_nobody_and_can_be_made_again(aws_users: Aws) -> None:
    aws_users.faults.fail("dynamodb.update_item", when=AFTER)
    with pytest.raises(ControlTrouble):
        await aws_users.users.put_user(ANN)
    assert list(await aws_users.users.users()) == []
    await aws_users.users.put_user(ANN)
    assert list(await aws_users.users.users()) == [ANN]


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"password_hash": "secret"}, "password_hash: "),
        ({"password": "secret"}, "password: "),
        ({"domains": "example.com"}, "domains: "),
        ({"schema": 2}, "schema: 2"),
        ({"priority": "urgent"}, "priority: "),
        ({"created_at": None}, "created_at: "),
    ],
    ids=str,
)
async def test_an_item_that_is_no_user_lets_nobody_in_and_is_named(
    aws_users: Aws, wrong: dict[str, Any], fault: str
) -> None:
    await aws_users.write({"pk": "user#eve", "created_at": "2026-03-01T12:00:00.000Z", **wrong})
    with pytest.raises(ControlTrouble, match=f"user#eve is no user: {fault}") as trouble:
        await aws_users.users.user("eve")
    assert "secret" not in str(trouble.value)
    assert aws_users.metrics.counts["invalid_user"] == 1


async def test_an_item_written_by_hand_may_leave_out_what_is_the_default(aws_users: Aws) -> None:
    await aws_users.write({"pk": "user#eve", "created_at": "2026-03-01T12:00:00.000Z"})
    eve = await aws_users.users.user("eve")
    assert eve == User(name="eve", created_at=START)
    await aws_users.users.put_user(eve.model_copy(update={"domains": ("*",)}), replacing=eve)
    [listed] = await aws_users.users.users()
    assert listed.domains == ("*",)


async def test_what_is_kept_reads_well_in_the_console(aws_users: Aws) -> None:
    await aws_users.users.put_user(WHOLE)
    key = {"pk": {"S": "user#bücher@example.com"}}
    item = (await aws_users.client.get_item(TableName=aws_users.table, Key=key))["Item"]
    assert item == encode_item(
        {
            "pk": "user#bücher@example.com",
            "schema": 1,
            "password_hash": HASH,
            "domains": ["*"],
            "tenant": "Team 7",
            "priority": "bulk",
            "messages_per_hour": 500,
            "revoked_at": "2026-03-01T12:00:00.001Z",
            "created_at": "2026-03-01T12:00:00.000Z",
        }
    )


async def test_users_that_a_batch_left_out_are_asked_for_again(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    class Busy(Calls):
        """Answers for one key of a batch, and leaves the others out."""

        async def batch_get_item(self, **request: Any) -> Any:
            [(table, wanted)] = request["RequestItems"].items()
            first, *rest = wanted["Keys"]
            answer = await super().batch_get_item(RequestItems={table: {"Keys": [first]}})
            unprocessed = {table: {**wanted, "Keys": rest}} if rest else {}
            return {"Responses": answer["Responses"], "UnprocessedKeys": unprocessed}

    busy: Any = Busy(dynamodb)
    clock = ManualClock(auto=True)
    users = DynamoUsers(busy, control_table, clock=clock, metrics=CountedMetrics())
    await users.put_user(ANN)
    with pytest.raises(ControlTrouble, match="left out 5 times"):
        await users.users()  # eight directories take eight tries
    assert clock.now() - START == timedelta(seconds=0.1 + 0.2 + 0.4 + 0.8)
