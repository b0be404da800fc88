"""The in-memory ledger and the DynamoDB one, given the same random history, give the same answers.

What the simulator proves on the first is worth something for the second because of this.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from empath.aws.ledger import DynamoLedger
from empath.domain.delivery_state import Event, State
from empath.domain.errors import LeaseLost
from empath.domain.records import DeliveryRecord
from empath.ports import Claimed, Ledger, Listed
from empath.testing.memory_ledger import MemoryLedger
from tests.contracts.ledger_samples import NOW, concluded, held, new_delivery, new_message, operated

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

seconds = st.integers(0, 40)
attempts = st.integers(1, 3)
owners = st.sampled_from("abc")
which = st.integers(0, 1)
reports = st.sampled_from(["delayed-1", "failed-1", "failed-2"])
owed = st.lists(reports, max_size=2)
events = st.sampled_from([Event.ACCEPT, Event.DEFER, Event.REFUSE])

steps = st.one_of(
    st.tuples(st.just("create")),
    # Claims come often, for nearly everything else needs one.
    st.tuples(st.just("claim"), which, attempts, owners, seconds),
    st.tuples(st.just("claim"), which, st.just(1), owners, seconds),
    st.tuples(st.just("record"), which, owners, events, owed),
    st.tuples(st.just("record"), which, owners, events, owed),
    st.tuples(st.just("record_unclaimed"), which, attempts, seconds, owed),
    st.tuples(st.just("read"), which),
    st.tuples(st.just("operate"), which, seconds, st.sampled_from("xyz"), owed),
    st.tuples(st.just("mark_queued"), which, attempts, seconds),
    st.tuples(st.just("mark_reported"), which, reports),
    st.tuples(st.just("settle"), which, st.none() | seconds),
    st.tuples(st.just("close"), seconds),
)


class History:
    """One ledger under test: the claims that its workers remember, and every answer it gave."""

    def __init__(self, ledger: Ledger, message: Any, deliveries: list[DeliveryRecord]) -> None:
        self.ledger = ledger
        self.message = message
        self.deliveries = deliveries
        self._held: dict[tuple[int, str], DeliveryRecord] = {}
        self._read_before: dict[int, DeliveryRecord | None] = {}

    async def step(self, name: str, *arguments: Any) -> Any:
        do: Callable[..., Any] = getattr(self, f"_{name}")
        try:
            return await do(*arguments)
        except LeaseLost:
            return "lease lost"

    async def state(self) -> Any:
        message_id = self.message.message_id
        return (
            await self.ledger.message(message_id),
            list(await self.ledger.deliveries(message_id)),
        )

    async def _create(self) -> Any:
        return list(await self.ledger.create(self.message, self.deliveries))

    async def _claim(self, number: int, attempt: int, owner: str, at: int) -> Any:
        now = NOW + timedelta(seconds=at)
        result = await self.ledger.claim(
            self.deliveries[number].key,
            attempt=attempt,
            owner=owner,
            now=now,
            until=now + timedelta(seconds=10),
        )
        if isinstance(result, Claimed):
            self._held[number, owner] = result.record
        return result

    async def _record(self, number: int, owner: str, event: Event, owes: list[str]) -> Any:
        record = self._held.get((number, owner))
        if record is None:
            return await self.ledger.record(self.deliveries[number], owner=owner, owes=owes)
        return await self.ledger.record(concluded(record, event), owner=owner, owes=owes)

    async def _record_unclaimed(self, number: int, attempt: int, at: int, owes: list[str]) -> Any:
        stored = await self.ledger.delivery(self.deliveries[number].key)
        return await self.ledger.record_unclaimed(
            held(stored or self.deliveries[number]),
            attempt=attempt,
            now=NOW + timedelta(seconds=at),
            owes=owes,
        )

    async def _read(self, number: int) -> Any:
        self._read_before[number] = await self.ledger.delivery(self.deliveries[number].key)
        return self._read_before[number]

    async def _operate(self, number: int, at: int, name: str, owes: list[str]) -> Any:
        """By an operator who read the delivery a while ago, or never."""
        before = self._read_before.get(number) or self.deliveries[number]
        now = NOW + timedelta(seconds=at)
        return await self.ledger.operate(
            operated(held(before), name, at=now), before=before, now=now, owes=owes
        )

    async def _mark_queued(self, number: int, attempt: int, at: int) -> Any:
        return await self.ledger.mark_queued(
            self.deliveries[number].key, attempt=attempt, job_at=NOW + timedelta(seconds=at)
        )

    async def _mark_reported(self, number: int, event: str) -> Any:
        return await self.ledger.mark_reported(self.deliveries[number].key, event)

    async def _settle(self, number: int, at: int | None) -> Any:
        forget_at = None if at is None else NOW + timedelta(seconds=at)
        return await self.ledger.settle(self.deliveries[number].key, forget_at=forget_at)

    async def _close(self, at: int) -> Any:
        return await self.ledger.close(self.message.message_id, forget_at=NOW + timedelta(seconds=at))


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(exists=st.sampled_from([True, True, True, False]), history=st.lists(steps, min_size=5, max_size=25))
async def test_memory_and_dynamodb_agree_on_every_history(
    exists: bool, history: list[tuple[Any, ...]], dynamodb: DynamoDBClient, deliveries_table: str
) -> None:
    message = new_message(deliveries=2)
    deliveries = [new_delivery(message), new_delivery(message, "example.net")]
    ledgers = (MemoryLedger(), DynamoLedger(dynamodb, deliveries_table))
    memory, dynamo = (History(ledger, message, deliveries) for ledger in ledgers)
    for step in [("create",), *history] if exists else history:
        assert await memory.step(*step) == await dynamo.step(*step), step
        assert await memory.state() == await dynamo.state(), step


async def test_a_listing_shows_the_same_rows(dynamodb: DynamoDBClient, fresh_table: str) -> None:
    listings = []
    for ledger in (MemoryLedger(), DynamoLedger(dynamodb, fresh_table)):
        rows: list[Listed] = []
        for event in (Event.ACCEPT, Event.DEFER, Event.REFUSE, Event.DEFER):
            message = new_message(message_id=f"01{event}{len(rows)}")
            [delivery] = await ledger.create(message, [new_delivery(message)])
            result = await ledger.claim(delivery.key, attempt=1, owner="a", now=NOW, until=NOW)
            assert isinstance(result, Claimed)
            await ledger.record(concluded(result.record, event), owner="a")
            for status in (State.DEFERRED, State.FAILED):
                for shard in range(8):
                    rows += (await ledger.listed(status, shard))[0]
        listings.append(rows)
    assert listings[0] == listings[1]
    assert listings[0]
