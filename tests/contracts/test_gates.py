"""The Gates contract: slots that nobody has twice, circuits that lose no change, connections by number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from empath.aws.gates import DynamoGates
from empath.domain.circuit import CLOSED, Circuit, Happening, Phase, Probe, Signal, after
from empath.domain.envelope import Priority
from empath.domain.errors import ControlTrouble
from empath.domain.gate_policy import CircuitPolicy
from empath.domain.line import Ask
from empath.domain.slots import Pace, to_micros
from empath.ports.gates import Gates
from empath.testing.clock import START, ManualClock
from empath.testing.memory_gates import MemoryGates

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

S = timedelta(seconds=1)
SITE = "mx1.b.test,mx2.b.test"
EACH_SECOND = Pace(interval=1_000_000)
POLICY = CircuitPolicy()
OPEN = Circuit(
    open_until=START + 300 * S,
    opened_at=START,
    openings=2,
    probe=Probe("a", START + 60 * S),
    cause="451 4.4.1 \x00 refused",
)


class Atomic:
    """A client whose calls come one after the other: moto works on several at a time, and looks at a
    condition and writes in two steps, which DynamoDB does in one."""

    def __init__(self, client: Any) -> None:
        self._client, self._lock = client, asyncio.Lock()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(**parameters: Any) -> Any:
            async with self._lock:
                return await getattr(self._client, name)(**parameters)

        return call


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def gates(request: pytest.FixtureRequest, dynamodb: DynamoDBClient, control_table: str) -> Gates:
    if request.param == "memory":
        return MemoryGates()
    client: Any = Atomic(dynamodb)
    return DynamoGates(client, control_table, clock=ManualClock(auto=True))


async def turns(
    gates: Gates,
    count: int = 1,
    *,
    later: float = 0,
    place: float | None = None,
    priority: Priority = "high",
    pace: Pace = EACH_SECOND,
    site: str = SITE,
    shard: int = 0,
) -> list[tuple[float, bool]]:
    """In seconds from START, and whether it is a slot."""
    at = None if place is None else to_micros(START + place * S)
    ask = Ask(priority, count, pace, to_micros(START + later * S), at)
    return [
        ((turn.at - START).total_seconds(), turn.is_slot)
        for turn in await gates.take_turns(site, ask, shard=shard)
    ]


async def reserve(gates: Gates, count: int = 1, **more: Any) -> list[float]:
    """As `turns`, where all of them are slots."""
    taken = await turns(gates, count, **more)
    assert all(is_slot for _, is_slot in taken)
    return [at for at, _ in taken]


# Slots.


async def test_slots_follow_each_other_at_the_pace(gates: Gates) -> None:
    assert await reserve(gates, 3) == [0, 1, 2]
    assert await reserve(gates, 2, later=0.5) == [3, 4]


async def test_an_idle_site_gives_a_slot_at_once(gates: Gates) -> None:
    assert await reserve(gates, 2) == [0, 1]
    assert await reserve(gates, later=10) == [10]
    assert await reserve(gates, later=10) == [11]


async def test_a_burst_may_go_at_once_after_a_pause(gates: Gates) -> None:
    burst = Pace(interval=1_000_000, burst=3)
    assert await reserve(gates, 5, pace=burst) == [0, 0, 0, 1, 2]
    assert await reserve(gates, 2, pace=burst, later=2) == [3, 4]
    assert await reserve(gates, 4, pace=burst, later=60) == [60, 60, 60, 61]


async def test_all_who_ask_at_once_have_turns_of_their_own(gates: Gates) -> None:
    found = await asyncio.gather(*(turns(gates, count) for count in (1, 2, 3) * 2))
    assert sorted(turn for each in found for turn in each) == [(at, at < 5) for at in range(12)]


async def test_sites_and_shards_do_not_share(gates: Gates) -> None:
    assert await reserve(gates, 2) == [0, 1]
    assert await reserve(gates, 2, shard=1) == [0, 1]
    assert await reserve(gates, site="mx.c.test") == [0]


async def test_a_clock_that_is_behind_gets_no_slot_that_is_taken(gates: Gates) -> None:
    assert await reserve(gates, 2, later=5) == [5, 6]
    assert await reserve(gates, 1, later=4) == [7]


async def test_a_pace_that_changes_counts_for_the_slots_to_come(gates: Gates) -> None:
    assert await reserve(gates, 2) == [0, 1]
    assert await reserve(gates, 3, pace=Pace(interval=500_000)) == [2, 2.5, 3]
    assert await reserve(gates, 1) == [3.5]


# Lines.


async def test_beyond_the_horizon_there_are_places_and_who_comes_back_gets_its_slot(gates: Gates) -> None:
    assert await turns(gates, 6, priority="bulk") == [(at, at < 3) for at in range(6)]
    assert await turns(gates, 2, priority="bulk", later=0.5) == [(6, False), (7, False)]
    for place in range(3, 8):
        assert await turns(gates, priority="bulk", later=place - 1.5, place=place) == [(place, True)]


async def test_however_long_the_line_of_the_lower_is_the_higher_have_the_next_slots(gates: Gates) -> None:
    await turns(gates, 1000, priority="bulk")
    assert await turns(gates, 100, priority="normal") == [(3, True), *[(at, False) for at in range(4, 103)]]
    assert await turns(gates, priority="high") == [(4, True)]
    assert await turns(gates, priority="high", later=1) == [(5, True)]


async def test_who_gives_way_goes_to_the_end_of_the_line(gates: Gates) -> None:
    await turns(gates, 10, priority="bulk")
    assert await turns(gates, 2, priority="high", later=1.5) == [(3, True), (4, True)]
    assert await turns(gates, priority="bulk", later=1.5, place=3) == [(10, False)]
    assert await turns(gates, priority="bulk", later=3.5, place=5) == [(5, True)]


async def test_nobody_who_comes_new_overtakes_a_line(gates: Gates) -> None:
    await turns(gates, 10, priority="bulk")
    await turns(gates, 10, priority="normal")
    assert await turns(gates, priority="normal", later=2) == [(13, False)]
    # Behind the line of the higher, too.
    await turns(gates, 20, priority="normal", later=2)
    assert await turns(gates, priority="bulk", later=2) == [(34, False)]


async def test_who_comes_a_little_late_takes_the_slot_of_its_place(gates: Gates) -> None:
    await turns(gates, 10, priority="bulk")
    assert await turns(gates, priority="bulk", later=3.7, place=3) == [(3, True)]
    assert await turns(gates, priority="bulk", later=3.7, place=4) == [(4, True)]


async def test_where_others_are_late_who_is_early_takes_what_is_free(gates: Gates) -> None:
    await turns(gates, 10, priority="bulk")
    # Nobody came back for 3 and 4.
    assert await turns(gates, 2, priority="bulk", later=4.5, place=6) == [(4.5, True), (5.5, True)]
    assert await turns(gates, 2, priority="bulk", later=5, place=5) == [(6.5, True), (7.5, True)]


async def test_a_limit_that_is_lowered_counts_at_once_for_who_stands_in_line(gates: Gates) -> None:
    await turns(gates, 10, priority="bulk")
    slow = Pace(interval=10_000_000)
    assert await turns(gates, priority="bulk", later=1.5, place=3, pace=slow) == [(3, True)]
    assert await turns(gates, priority="bulk", later=2.5, place=4, pace=slow) == [(13, False)]
    assert await turns(gates, priority="bulk", later=3.5, place=5, pace=slow) == [(23, False)]


async def test_who_comes_new_does_not_stand_behind_a_line_that_was_forgotten(gates: Gates) -> None:
    assert not await gates.forget_lines(SITE)
    await turns(gates, 100, priority="bulk")
    await turns(gates, 100, shard=2)
    assert await gates.forget_lines(SITE)
    assert not await gates.forget_lines(SITE)
    assert await turns(gates, 2, priority="bulk", later=2) == [(3, True), (4, True)]
    assert await turns(gates, shard=2, later=2) == [(5, True)]
    # Who stood there comes all the same.
    assert await turns(gates, priority="bulk", later=40, place=41) == [(40, True)]


# Circuits.


def happening(signal: Signal, *, later: float = 0, owner: str = "") -> Callable[[Circuit], Circuit]:
    now = START + timedelta(seconds=later)
    told = Happening(signal, now, owner=owner, until=now + 60 * S, cause="no")
    return lambda circuit: after(circuit, told, POLICY)


async def test_a_site_that_nobody_heard_of_is_closed(gates: Gates) -> None:
    assert await gates.circuit(SITE) == CLOSED
    assert await gates.troubled() == frozenset()
    assert await gates.circuits() == {}


@pytest.mark.parametrize("circuit", [OPEN, Circuit(failures=(START, START + S), cause="x"), CLOSED])
async def test_a_circuit_is_kept_as_it_was_written(gates: Gates, circuit: Circuit) -> None:
    assert await gates.change_circuit(SITE, lambda _: OPEN) == OPEN
    assert await gates.change_circuit(SITE, lambda _: circuit) == circuit
    assert await gates.circuit(SITE) == circuit


async def test_slots_and_circuit_of_a_site_do_not_disturb_each_other(gates: Gates) -> None:
    assert await reserve(gates, 2) == [0, 1]
    await gates.change_circuit(SITE, lambda _: OPEN)
    assert await reserve(gates) == [2]
    assert await gates.circuit(SITE) == OPEN


async def test_no_change_is_lost_among_many(gates: Gates) -> None:
    def counted(circuit: Circuit) -> Circuit:
        return replace(circuit, openings=circuit.openings + 1)

    changed = await asyncio.gather(*(gates.change_circuit(SITE, counted) for _ in range(6)))
    assert sorted(circuit.openings for circuit in changed) == [1, 2, 3, 4, 5, 6]
    assert (await gates.circuit(SITE)).openings == 6


async def test_of_many_who_would_probe_one_does(gates: Gates) -> None:
    for _ in range(5):
        await gates.change_circuit(SITE, happening(Signal.FAILURE))
    asked = await asyncio.gather(
        *(gates.change_circuit(SITE, happening(Signal.ASK, later=301, owner=owner)) for owner in "abcdef")
    )
    assert len({circuit.probe and circuit.probe.owner for circuit in asked}) == 1
    assert asked[0].phase(START + 301 * S) is Phase.PROBING


async def test_what_is_not_closed_is_listed_until_it_is_closed(gates: Gates) -> None:
    await gates.change_circuit("mx.c.test", lambda _: replace(OPEN, cause="c"))
    await gates.change_circuit(SITE, lambda _: OPEN)
    await gates.change_circuit("mx.d.test", lambda _: Circuit(failures=(START,)))
    assert await gates.troubled() == {SITE, "mx.c.test"}
    assert await gates.circuits() == {SITE: OPEN, "mx.c.test": replace(OPEN, cause="c")}
    await gates.change_circuit(SITE, happening(Signal.SUCCESS))
    assert await gates.troubled() == {"mx.c.test"}
    assert list(await gates.circuits()) == ["mx.c.test"]


# Connections.


async def take(gates: Gates, owner: str, *, limit: int = 3, later: float = 0) -> int | None:
    now = START + timedelta(seconds=later)
    return await gates.take_connection(SITE, limit=limit, owner=owner, now=now, until=now + 60 * S)


async def test_there_are_as_many_connections_as_the_limit_says(gates: Gates) -> None:
    taken = await asyncio.gather(*(take(gates, f"owner-{n}") for n in range(3)))
    assert sorted(number for number in taken if number is not None) == [0, 1, 2]
    assert await take(gates, "late") is None
    assert await gates.take_connection("c.test", limit=1, owner="x", now=START, until=START + S) == 0


async def test_at_once_no_number_is_given_twice(gates: Gates) -> None:
    taken = await asyncio.gather(*(take(gates, f"owner-{n}", limit=5) for n in range(20)))
    numbers = [number for number in taken if number is not None]
    assert len(numbers) == len(set(numbers)) <= 5
    assert set(numbers) <= set(range(5))


async def test_what_is_given_back_is_there_again(gates: Gates) -> None:
    number = await take(gates, "a", limit=1)
    assert number == 0
    await gates.release_connection(SITE, 0, owner="b")
    assert await take(gates, "b", limit=1) is None
    await gates.release_connection(SITE, 0, owner="a")
    await gates.release_connection(SITE, 0, owner="a")
    assert await take(gates, "b", limit=1) == 0


async def test_the_connection_of_a_worker_that_died_is_free_when_its_lease_ends(gates: Gates) -> None:
    assert await take(gates, "a", limit=1) == 0
    assert await take(gates, "b", limit=1, later=59) is None
    assert await take(gates, "b", limit=1, later=60) == 0
    await gates.release_connection(SITE, 0, owner="a")
    assert await take(gates, "c", limit=1, later=61) is None


async def test_a_limit_that_is_lowered_gives_out_nothing_above_it(gates: Gates) -> None:
    for owner in "abcde":
        await take(gates, owner, limit=5)
    await asyncio.gather(*(gates.release_connection(SITE, n, owner=o) for n in (3, 4) for o in "abcde"))
    assert await take(gates, "x", limit=2) is None


# What only the AWS adapter has.


async def test_a_site_is_one_item_that_lives_longer_than_any_message(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    gates = DynamoGates(dynamodb, control_table, clock=ManualClock())
    await reserve(gates, 2)
    await gates.change_circuit(SITE, lambda _: OPEN)
    await turns(gates, 5, priority="bulk")
    key = {"pk": {"S": f"site#{SITE}"}}
    item = (await dynamodb.get_item(TableName=control_table, Key=key))["Item"]
    assert set(item) == {"pk", "tat", "line_bulk", "circuit", "version", "expires_at"}
    assert int(item["tat"]["N"]) == to_micros(START + 3 * S)
    assert int(item["line_bulk"]["N"]) == to_micros(START + 7 * S)
    assert datetime.fromtimestamp(int(item["expires_at"]["N"]), START.tzinfo) == START + timedelta(days=31)


class Watched:
    """A client that counts its calls, and loses the answers to some (by number)."""

    def __init__(self, client: Any, *, unanswered: int | None = None, undone: int | None = None) -> None:
        self._client, self.calls = client, list[str]()
        self._unanswered, self._undone = unanswered, undone

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(**parameters: Any) -> Any:
            self.calls.append(name)
            number = len(self.calls)
            if number == self._undone:
                raise TimeoutError
            answer = await getattr(self._client, name)(**parameters)
            if number == self._unanswered:
                raise TimeoutError
            return answer

        return call


async def test_a_reservation_is_one_update_for_all_its_slots(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    client: Any = Watched(dynamodb)
    gates = DynamoGates(client, control_table, clock=ManualClock())
    for number in range(10):
        await reserve(gates, 10, later=number, pace=Pace(interval=100_000))
    assert await reserve(gates, later=3600) == [3600]
    assert client.calls == ["update_item"] * 11


async def test_a_long_line_costs_an_update_for_all_who_stand_in_it_and_one_when_they_come_back(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    client: Any = Watched(dynamodb)
    gates = DynamoGates(client, control_table, clock=ManualClock())
    assert await turns(gates, 10, priority="bulk") == [(at, at < 3) for at in range(10)]
    assert client.calls == ["update_item"] * 2
    await turns(gates, 10, priority="bulk")
    assert client.calls == ["update_item"] * 3
    assert await turns(gates, 2, priority="bulk", later=1.5, place=3) == [(3, True), (4, True)]
    assert client.calls == ["update_item"] * 4
    # Another worker knows of no line yet: it is told, and takes its place.
    other: Any = Watched(dynamodb)
    await turns(DynamoGates(other, control_table, clock=ManualClock()), 10, priority="bulk", later=1.5)
    assert other.calls == ["update_item"] * 2


@pytest.mark.parametrize("place", [None, 0.0])
async def test_workers_that_ask_at_the_same_moment_all_have_turns(
    dynamodb: DynamoDBClient, control_table: str, place: float | None
) -> None:
    atomic = Atomic(dynamodb)
    clients: list[Any] = [Watched(atomic) for _ in range(20)]
    workers = [DynamoGates(client, control_table, clock=ManualClock()) for client in clients]
    found = await asyncio.gather(*(turns(worker, 1 + n % 2, place=place) for n, worker in enumerate(workers)))
    assert sorted(turn for each in found for turn in each) == [(at, at < 5) for at in range(30)]
    assert max(len(client.calls) for client in clients) <= 12


async def test_a_free_connection_is_one_write(dynamodb: DynamoDBClient, control_table: str) -> None:
    client: Any = Watched(dynamodb)
    gates = DynamoGates(client, control_table, clock=ManualClock())
    number = await take(gates, "a", limit=100)
    assert number is not None
    await gates.release_connection(SITE, number, owner="a")
    assert client.calls == ["update_item", "delete_item"]


async def test_an_answer_that_is_lost_wastes_a_slot_and_gives_none_twice(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    client: Any = Watched(dynamodb, unanswered=1)
    gates = DynamoGates(client, control_table, clock=ManualClock())
    with pytest.raises(ControlTrouble):
        await reserve(gates)
    assert await reserve(gates) == [1]


async def test_an_opening_that_was_cut_short_leaves_a_name_and_no_open_circuit(
    dynamodb: DynamoDBClient, control_table: str
) -> None:
    client: Any = Watched(dynamodb, undone=3)
    gates = DynamoGates(client, control_table, clock=ManualClock())
    with pytest.raises(ControlTrouble):
        await gates.change_circuit(SITE, lambda _: OPEN)
    assert await gates.troubled() == {SITE}
    assert await gates.circuits() == {}
    assert await gates.circuit(SITE) == CLOSED


async def test_a_circuit_that_cannot_be_read_is_trouble(dynamodb: DynamoDBClient, control_table: str) -> None:
    item: Any = {"pk": {"S": f"site#{SITE}"}, "circuit": {"M": {"open_until": {"S": "tomorrow"}}}}
    await dynamodb.put_item(TableName=control_table, Item=item)
    gates = DynamoGates(dynamodb, control_table, clock=ManualClock())
    with pytest.raises(ControlTrouble, match="holds no circuit"):
        await gates.circuit(SITE)


async def test_trouble_is_trouble(control_table: str) -> None:
    class Dead:
        def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
            async def call(**_: Any) -> Any:
                raise TimeoutError

            return call

    dead: Any = Dead()
    gates = DynamoGates(dead, control_table, clock=ManualClock())
    for asked in (reserve(gates), gates.circuit(SITE), gates.troubled(), take(gates, "a")):
        with pytest.raises(ControlTrouble):
            await asked
