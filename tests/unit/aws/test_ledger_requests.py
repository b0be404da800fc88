"""How many requests the DynamoDB adapter makes, and what it makes of sparse answers."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, cast

import pytest

from empath.aws import items
from empath.aws.ledger import CLAIM_ROUNDS, DynamoLedger
from empath.domain.delivery_state import State
from empath.domain.errors import LedgerTrouble
from empath.domain.records import DeliveryRecord, Lease, MessageRecord
from empath.ports import Claimed, LeaseHeld, Missing, Stale
from tests.unit.aws.scripted import ScriptedClient, refusal
from tests.unit.aws.test_items import NOW, delivery, message

UNTIL = NOW + timedelta(seconds=70)
REFUSED = refusal(400, "ConditionalCheckFailedException")


def refused_with(record: DeliveryRecord | MessageRecord) -> Exception:
    """A refusal that brings the item along (ALL_OLD)."""
    return refusal(400, "ConditionalCheckFailedException", Item=item_of(record))


def item_of(record: DeliveryRecord | MessageRecord) -> Any:
    return (
        items.item_of_message(record) if isinstance(record, MessageRecord) else items.item_of_delivery(record)
    )


def ledger_on(client: ScriptedClient) -> DynamoLedger:
    return DynamoLedger(cast(Any, client), "deliveries")


async def claim(client: ScriptedClient) -> Any:
    return await ledger_on(client).claim(delivery().key, attempt=1, owner="a", now=NOW, until=UNTIL)


LEASED = delivery(lease=Lease(owner="b", until=UNTIL))


async def test_creating_is_one_write_per_item_and_no_read() -> None:
    client = ScriptedClient(put_item=[{}, {}])
    await ledger_on(client).create(message(), [delivery()])
    assert client.operations == ["put_item", "put_item"]


async def test_what_is_there_comes_with_the_refusal() -> None:
    client = ScriptedClient(put_item=[refused_with(message()), refused_with(LEASED)])
    assert await ledger_on(client).create(message(), [delivery()]) == [LEASED]
    assert client.operations == ["put_item", "put_item"]


async def test_a_refusal_tells_without_a_read_why_a_claim_failed() -> None:
    for refused, result in (
        (LEASED, LeaseHeld(UNTIL)),
        (delivery(attempt=2), Stale(delivery(attempt=2))),
    ):
        client = ScriptedClient(update_item=[refused_with(refused)])
        assert await claim(client) == result
        assert client.operations == ["update_item"]


async def test_where_the_refusal_brings_no_item_it_is_read() -> None:
    client = ScriptedClient(update_item=[REFUSED], get_item=[{"Item": item_of(LEASED)}])
    assert await claim(client) == LeaseHeld(UNTIL)
    client = ScriptedClient(update_item=[REFUSED], get_item=[{}])
    assert await claim(client) == Missing()


async def test_a_claim_is_made_again_when_the_lease_ended_before_it_was_read() -> None:
    free = delivery()
    ours = delivery(lease=Lease(owner="a", until=UNTIL))
    client = ScriptedClient(
        update_item=[REFUSED, {"Attributes": item_of(ours)}], get_item=[{"Item": item_of(free)}]
    )
    assert await claim(client) == Claimed(ours.begin_attempt())


async def test_a_claim_that_never_settles_is_trouble() -> None:
    client = ScriptedClient(
        update_item=[REFUSED] * CLAIM_ROUNDS, get_item=[{"Item": item_of(delivery())}] * CLAIM_ROUNDS
    )
    with pytest.raises(LedgerTrouble, match="changes too quickly"):
        await claim(client)


async def test_our_own_lease_means_that_only_the_answer_to_the_claim_was_lost() -> None:
    ours = delivery(lease=Lease(owner="a", until=UNTIL))
    client = ScriptedClient(update_item=[refused_with(ours)])
    assert await claim(client) == Claimed(ours.begin_attempt())


async def test_an_outcome_is_one_write_whatever_it_owes() -> None:
    client = ScriptedClient(update_item=[{}])
    await ledger_on(client).record(LEASED, owner="b", owes=["failed-1", "delayed-1", "failed-1"])
    [(_, request)] = client.calls
    assert request["ConditionExpression"] == "#lease.#owner = :owner"
    assert "#lease" in request["UpdateExpression"].split("REMOVE")[1]
    assert request["UpdateExpression"].count("if_not_exists") == 2


async def test_every_name_and_value_of_a_request_is_declared_and_none_besides() -> None:
    client = ScriptedClient(update_item=[{}] * 6)
    ledger = ledger_on(client)
    key = delivery().key
    await ledger.record(LEASED, owner="b", owes=["failed-1"])
    await ledger.record_unclaimed(LEASED, attempt=1, now=NOW)
    await ledger.mark_queued(key, attempt=1, job_at=NOW)
    await ledger.mark_reported(key, "failed-1")
    await ledger.settle(key, forget_at=NOW)
    await ledger.close(key.message_id, forget_at=NOW)
    for _, request in client.calls:
        expressions = f"{request['ConditionExpression']} {request['UpdateExpression']}"
        used = set(re.findall(r"[#:]\w+", expressions))
        assert (
            used == request["ExpressionAttributeNames"].keys() | request["ExpressionAttributeValues"].keys()
        )


async def test_a_listed_item_that_cannot_be_read_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    good = {
        "pk": {"S": "01M"},
        "sk": {"S": "delivery#b.test"},
        "status": {"S": "DEFERRED"},
        "at": {"S": "2026-03-01T12:00:00.000Z"},
        "attempt": {"N": "2"},
    }
    bad = [{**good, name: value} for name, value in (("status", {"S": "?"}), ("at", {"S": "?"}))]
    without = {name: value for name, value in good.items() if name != "attempt"}
    client = ScriptedClient(query=[{"Items": [*bad, without, {**good, "job_at": {"B": b""}}, good]}])
    rows, more = await ledger_on(client).listed(State.DEFERRED, 0)
    assert [row.key.delivery for row in rows] == ["delivery#b.test"]
    assert more is None
    assert len(caplog.records) == 4
