"""The DnsCache contract: answers are shared, orders are in force within 30 s, nothing wrong takes effect."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import pytest_asyncio

from empath.aws.attributes import decode_item, encode_item
from empath.aws.dns_cache import FRESH_FOR, DynamoDnsCache
from empath.domain.errors import ControlTrouble
from empath.net.resolver import DnsResolver
from empath.ports import DnsAnswer, DnsCache, DnsOverride, MailExchanger
from empath.ports.dns_cache import ORDERS_KEPT, read_override
from empath.testing.clock import START, ManualClock
from empath.testing.dns_server import serving
from empath.testing.faults import Faults
from empath.testing.memory_dns_cache import MemoryDnsCache
from empath.testing.metrics import CountedMetrics
from empath.testing.zones import Node

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

ANSWER = DnsAnswer(
    name="example.com",
    rdtype="MX",
    exists=True,
    canonical="real.example.net",
    records=("10 mx1.example.net", "20 mx2.example.net"),
    authenticated=True,
    asked_at=START,
    fresh_until=START + timedelta(minutes=10),
)
NULL_MX = replace(ANSWER, name="null.example", canonical="null.example", records=("0 .",))
NO_MX = replace(ANSWER, name="nomx.example", canonical="nomx.example", records=(), authenticated=False)
NOBODY = replace(NO_MX, name="nosuch.example", canonical="nosuch.example", exists=False)
OVERRIDE = read_override(["10 mx.new.example", "20 [192.0.2.7]"], START)


class Bench(Protocol):
    port: DnsCache
    clock: ManualClock

    def other(self) -> DnsCache:
        """The port of another process."""


class MemoryBench:
    def __init__(self) -> None:
        self.port: DnsCache = MemoryDnsCache()
        self.clock = ManualClock()

    def other(self) -> DnsCache:
        return self.port


class DynamoBench:
    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client, self._table = client, table
        self.clock = ManualClock()
        self.port: DnsCache = self.other()

    def other(self) -> DnsCache:
        return DynamoDnsCache(self._client, self._table, clock=self.clock)


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def bench(request: pytest.FixtureRequest, dynamodb: DynamoDBClient, control_table: str) -> Bench:
    return MemoryBench() if request.param == "memory" else DynamoBench(dynamodb, control_table)


def until(answer: DnsAnswer) -> dict[str, Any]:
    return {"forget_at": answer.fresh_until + timedelta(days=1)}


async def test_nothing_is_known_at_first(bench: Bench) -> None:
    assert await bench.port.answer("example.com") is None
    assert await bench.port.answers(10) == ([], False)
    orders = await bench.port.orders()
    assert (dict(orders.overrides), dict(orders.cleared), orders.all_cleared) == ({}, {}, None)


@pytest.mark.parametrize("answer", [ANSWER, NULL_MX, NO_MX, NOBODY], ids=lambda answer: answer.name)
async def test_an_answer_comes_back_as_it_was_kept(bench: Bench, answer: DnsAnswer) -> None:
    await bench.port.keep(answer, **until(answer))
    assert await bench.other().answer(answer.name) == answer


async def test_a_later_answer_takes_the_place_of_the_one_before(bench: Bench) -> None:
    later = replace(ANSWER, records=("5 elsewhere.example",), asked_at=START + timedelta(hours=1))
    for answer in (ANSWER, later):
        await bench.port.keep(answer, **until(answer))
    assert await bench.other().answer("example.com") == later


async def test_answers_are_listed_by_name_up_to_a_limit(bench: Bench) -> None:
    names = [f"d{number:02}.example" for number in range(30)]
    answers = [replace(ANSWER, name=name) for name in names]
    await asyncio.gather(*(bench.port.keep(answer, **until(answer)) for answer in reversed(answers)))
    await bench.port.override("d00.example", OVERRIDE)
    assert await bench.other().answers(30) == (answers, False)
    assert await bench.other().answers(7) == (answers[:7], True)


async def test_an_override_is_in_force_for_who_set_it_at_once_and_for_others_soon(bench: Bench) -> None:
    other = bench.other()
    await other.orders()
    await bench.port.override("example.com", OVERRIDE)
    assert dict((await bench.port.orders()).overrides) == {"example.com": OVERRIDE}
    bench.clock.advance(FRESH_FOR.total_seconds())
    assert dict((await other.orders()).overrides) == {"example.com": OVERRIDE}


async def test_an_override_is_replaced_and_taken_away_and_leaves_others_alone(bench: Bench) -> None:
    second = read_override(["1 second.example"], START + timedelta(seconds=1))
    for domain, override in (("a.example", OVERRIDE), ("b.example", OVERRIDE), ("a.example", second)):
        await bench.port.override(domain, override)
    assert dict((await bench.port.orders()).overrides) == {"a.example": second, "b.example": OVERRIDE}
    for _ in range(2):
        await bench.port.override("a.example", None)
    assert dict((await bench.other().orders()).overrides) == {"b.example": OVERRIDE}


async def test_clearing_a_domain_forgets_its_answer_and_says_so_to_all(bench: Bench) -> None:
    for answer in (ANSWER, NO_MX):
        await bench.port.keep(answer, **until(answer))
    assert await bench.port.clear("example.com", START) == 1
    assert await bench.port.clear("example.com", START + timedelta(seconds=1)) == 0
    assert await bench.port.answer("example.com") is None
    assert await bench.port.answer("nomx.example") == NO_MX
    orders = await bench.other().orders()
    assert orders.forgets("example.com", START + timedelta(seconds=1))
    assert not orders.forgets("example.com", START + timedelta(seconds=2))
    assert not orders.forgets("nomx.example", START)


async def test_clearing_everything_forgets_all_answers_and_no_override(bench: Bench) -> None:
    answers = [replace(ANSWER, name=f"d{number}.example") for number in range(60)]
    await asyncio.gather(*(bench.port.keep(answer, **until(answer)) for answer in answers))
    await bench.port.override("example.com", OVERRIDE)
    await bench.port.clear("example.com", START)
    assert await bench.port.clear(None, START + timedelta(seconds=5)) == 60
    assert await bench.port.answers(10) == ([], False)
    orders = await bench.other().orders()
    assert dict(orders.overrides) == {"example.com": OVERRIDE}
    assert orders.forgets("anything.example", START + timedelta(seconds=5))
    assert not orders.forgets("anything.example", START + timedelta(seconds=6))


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        ([], "no host at all"),
        (["mx.example"], "no MX record"),
        (["10"], "no MX record"),
        (["x mx.example"], "no MX record"),
        (["70000 mx.example"], "no MX record"),
        (["10 ."], "neither a host name nor an address literal"),
        (["10 MX.example"], "neither a host name"),
        (["10 a..b"], "neither a host name"),
        (["10 a b"], "neither a host name"),
        (["10 [10.0.0.1"], "not closed"),
        (["10 [mx.example]"], "not an IP address"),
        (["10 mx.example"] * 21, "more than 20 hosts"),
    ],
    ids=str,
)
async def test_an_override_names_hosts_or_addresses(records: list[str], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_override(records, START)


async def test_mail_exchangers_are_written_as_in_a_zone_file() -> None:
    for exchanger in (MailExchanger(10, "mx.example"), MailExchanger(0, "")):
        assert MailExchanger.parse(str(exchanger)) == exchanger
    assert str(MailExchanger(0, "")) == "0 ."


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

    async def delete_item(self, **request: Any) -> Any:
        return await self._client.delete_item(**request)

    async def scan(self, **request: Any) -> Any:
        return await self._client.scan(**request)


class Aws:
    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self.client, self.table = client, table
        self.faults, self.clock, self.metrics = Faults(), ManualClock(), CountedMetrics()
        wrapped: Any = self.faults.wrap("dynamodb", Calls(client), ControlTrouble)
        self.cache = DynamoDnsCache(wrapped, table, clock=self.clock, metrics=self.metrics)

    async def write(self, item: dict[str, Any]) -> None:
        await self.client.put_item(TableName=self.table, Item=encode_item(item))

    async def item(self, key: str) -> dict[str, Any]:
        answer = await self.client.get_item(TableName=self.table, Key={"pk": {"S": key}})
        return decode_item(answer["Item"])


@pytest_asyncio.fixture(loop_scope="session")
async def aws_cache(dynamodb: DynamoDBClient, control_table: str) -> Aws:
    return Aws(dynamodb, control_table)


async def test_orders_are_read_once_in_thirty_seconds_however_many_ask(aws_cache: Aws) -> None:
    await asyncio.gather(*(aws_cache.cache.orders() for _ in range(20)))
    aws_cache.clock.advance(29.9)
    await aws_cache.cache.orders()
    assert aws_cache.faults.calls == ["dynamodb.get_item"]
    aws_cache.clock.advance(0.1)
    await aws_cache.cache.orders()
    assert aws_cache.faults.calls == ["dynamodb.get_item"] * 2


async def test_orders_stay_in_force_while_the_store_is_in_trouble(aws_cache: Aws) -> None:
    aws_cache.faults.fail("dynamodb.get_item", times=1, error=TimeoutError())
    with pytest.raises(ControlTrouble):
        await aws_cache.cache.orders()
    await aws_cache.cache.override("example.com", OVERRIDE)
    await aws_cache.cache.orders()
    aws_cache.faults.fail("dynamodb.get_item", times=1, error=TimeoutError())
    aws_cache.clock.advance(30)
    assert dict((await aws_cache.cache.orders()).overrides) == {"example.com": OVERRIDE}
    assert aws_cache.metrics.counts["stale_dns_orders"] == 1


@pytest.mark.parametrize("call", ["answer", "keep", "override", "clear"])
async def test_every_call_maps_trouble(aws_cache: Aws, call: str) -> None:
    for method in ("get_item", "put_item", "update_item", "delete_item"):
        aws_cache.faults.fail(f"dynamodb.{method}", times=None, error=TimeoutError())
    arguments: dict[str, tuple[Any, ...]] = {
        "answer": ("example.com",),
        "override": ("example.com", OVERRIDE),
        "clear": ("example.com", START),
    }
    with pytest.raises(ControlTrouble):
        if call == "keep":
            await aws_cache.cache.keep(ANSWER, **until(ANSWER))
        else:
            await getattr(aws_cache.cache, call)(*arguments[call])


async def test_a_wrong_override_leaves_the_last_good_one_in_force(aws_cache: Aws) -> None:
    await aws_cache.cache.override("a.example", OVERRIDE)
    await aws_cache.cache.orders()
    good = {"mx": ["10 mx.b.example"], "set_at": "2026-03-01T12:00:00.000Z"}
    wrong: list[Any] = [
        {"mx": ["mx"], "set_at": good["set_at"]},
        {"mx": good["mx"]},
        "10 mx",
        {"mx": 7},
        None,
    ]
    for number, entry in enumerate(wrong):
        overrides = {"a.example": entry, "b.example": good, "c.example": entry}
        await aws_cache.write({"pk": "dns-orders", "overrides": overrides, "cleared": {"x.example": "soon"}})
        aws_cache.clock.advance(30)
        orders = await aws_cache.cache.orders()
        assert dict(orders.overrides) == {
            "a.example": OVERRIDE,
            "b.example": DnsOverride((MailExchanger(10, "mx.b.example"),), START),
        }
        assert aws_cache.metrics.counts["invalid_dns_item"] == 3 * (number + 1)


@pytest.mark.parametrize(
    "wrong",
    [{"mx": ["ten mx"]}, {"mx": None}, {"schema": 2}, {"asked_at": "now"}, {"fresh_until": None}],
    ids=str,
)
async def test_an_item_that_is_no_answer_is_none(aws_cache: Aws, wrong: dict[str, Any]) -> None:
    await aws_cache.cache.keep(ANSWER, **until(ANSWER))
    await aws_cache.write({**await aws_cache.item("dns#example.com"), **wrong})
    assert await aws_cache.cache.answer("example.com") is None
    assert await aws_cache.cache.answers(10) == ([], False)
    assert aws_cache.metrics.counts["invalid_dns_item"] == 2


async def test_what_is_kept_reads_well_in_the_console_and_expires(aws_cache: Aws) -> None:
    await aws_cache.cache.keep(ANSWER, **until(ANSWER))
    await aws_cache.cache.override("example.com", OVERRIDE)
    assert await aws_cache.item("dns#example.com") == {
        "pk": "dns#example.com",
        "schema": 1,
        "exists": True,
        "canonical": "real.example.net",
        "mx": ["10 mx1.example.net", "20 mx2.example.net"],
        "authenticated": True,
        "asked_at": "2026-03-01T12:00:00.000Z",
        "fresh_until": "2026-03-01T12:10:00.000Z",
        "expires_at": int((START + timedelta(minutes=10, days=1)).timestamp()),
    }
    assert await aws_cache.item("dns-orders") == {
        "pk": "dns-orders",
        "schema": 1,
        "overrides": {
            "example.com": {
                "mx": ["10 mx.new.example", "20 [192.0.2.7]"],
                "set_at": "2026-03-01T12:00:00.000Z",
            }
        },
        "cleared": {},
    }


async def test_processes_with_resolvers_share_through_the_table(aws_cache: Aws) -> None:
    async with serving({"example.test": Node(mx=[(10, "mx.test")])}, ttl=600) as server:
        sources = []
        for _ in range(2):
            cache = DynamoDnsCache(aws_cache.client, aws_cache.table, clock=aws_cache.clock)
            resolver = DnsResolver([server.nameserver], cache=cache, now=aws_cache.clock.now)
            sources += [(await resolver.find("example.test", "MX")).source for _ in range(2)]
    assert sources == ["asked", "memory", "shared", "memory"]
    item = await aws_cache.item("dns#example.test")
    assert item["expires_at"] == int((START + timedelta(minutes=10, hours=24)).timestamp())


async def test_old_clearings_are_forgotten_themselves(aws_cache: Aws) -> None:
    for number in range(3):
        await aws_cache.cache.clear(f"old{number}.example", START)
    await aws_cache.cache.clear("new.example", START + ORDERS_KEPT + timedelta(seconds=1))
    assert set((await aws_cache.item("dns-orders"))["cleared"]) == {"new.example"}
