"""The Ledger contract: one claim at a time, outcomes only under their claim, nothing written twice.

Names of tests that begin with `dynamodb_` are about semantics of its conditional writes.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from empath.aws.ledger import DynamoLedger
from empath.domain.delivery_state import Event, State
from empath.domain.envelope import Source
from empath.domain.errors import LeaseLost, LedgerTrouble
from empath.domain.records import MAX_ATTEMPTS_KEPT, DeliveryKey, RecipientRecord, ReportState
from empath.domain.reply import Reply
from empath.ports import Claimed, LeaseHeld, Ledger, Missing, Stale
from empath.testing.memory_ledger import MemoryLedger
from tests.contracts.ledger_samples import (
    LATER,
    LEASE_END,
    NOW,
    after,
    claimed,
    concluded,
    created,
    held,
    new_delivery,
    new_message,
    stored,
)

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def ledger(request: pytest.FixtureRequest, dynamodb: DynamoDBClient, deliveries_table: str) -> Ledger:
    if request.param == "memory":
        return MemoryLedger()
    return DynamoLedger(dynamodb, deliveries_table)


async def claim(ledger: Ledger, key: DeliveryKey, attempt: int, owner: str, **times: Any) -> Any:
    given: dict[str, Any] = {"now": NOW, "until": LEASE_END}
    return await ledger.claim(key, attempt=attempt, owner=owner, **(given | times))


NOBODY = DeliveryKey(message_id="01NOBODY", delivery="delivery#example.com")


# create


async def test_what_was_created_is_read_back_whole(ledger: Ledger) -> None:
    message = new_message(
        deliveries=2,
        reverse_path=None,
        eight_bit=True,
        smtputf8=True,
        envid="QQ314159",
        ret="HDRS",
        source=Source(client="2001:db8::1", helo="client.example", user="app", tls="TLSv1.3"),
        tenant="acme",
        priority="bulk",
        metadata={"campaign": "spring", "": [1, 1.5, None, {"deep": True}], "big": 10**40, "float": 1e300},
        prepend="Received: from client.example\r\n\tby relay.example; now\r\n",
        trace_header="Root=1-5759e988-bd862e3fe1be46a994272793",
    )
    recipients = {
        "user@example.com": RecipientRecord(notify=("FAILURE", "DELAY"), orcpt="rfc822;user@example.com"),
        "never@example.com": RecipientRecord(notify=("NEVER",)),
        "empty@example.com": RecipientRecord(notify=()),
        "told@example.com": RecipientRecord(passed_on=True, delay_reported=3),
    }
    deliveries = [new_delivery(message, recipients=recipients), new_delivery(message, "example.net")]
    assert list(await ledger.create(message, deliveries)) == deliveries
    assert await ledger.message(message.message_id) == message
    assert list(await ledger.deliveries(message.message_id)) == deliveries
    assert await ledger.delivery(deliveries[1].key) == deliveries[1]


async def test_what_nobody_created_is_not_there(ledger: Ledger) -> None:
    assert await ledger.message(NOBODY.message_id) is None
    assert await ledger.delivery(NOBODY) is None
    assert list(await ledger.deliveries(NOBODY.message_id)) == []


async def test_creating_again_changes_nothing_and_returns_what_is_there(ledger: Ledger) -> None:
    message = new_message(deliveries=2)
    first, second = new_delivery(message), new_delivery(message, "example.net")
    await ledger.create(message, [first])
    record = concluded(await claimed(ledger, first), Event.ACCEPT)
    await ledger.record(record, owner="a")

    other = message.model_copy(update={"size": 99})
    found = await ledger.create(other, [first, second])

    assert [delivery.status for delivery in found] == [State.SENT, State.QUEUED]
    assert await ledger.message(message.message_id) == message
    assert await stored(ledger, first.key) == found[0]


async def test_a_message_of_many_destinations_is_created_whole_and_in_order(ledger: Ledger) -> None:
    message = new_message(deliveries=60)
    deliveries = [new_delivery(message, f"d{number:02}.example") for number in range(60)]
    assert list(await ledger.create(message, deliveries[::-1])) == deliveries[::-1]
    assert list(await ledger.deliveries(message.message_id)) == deliveries


async def test_recipients_may_have_any_address_that_mail_knows(ledger: Ledger) -> None:
    addresses = [
        '"john..doe"@example.com',
        '"a#b:c.d [0] \\"quoted\\""@example.com',
        "δοκιμή@παράδειγμα.δοκιμή",
        "用户@例子.广告",
        "user+tag=x/y%z@[IPv6:2001:db8::1]",
        "#reports.#event@example.com",
    ]
    delivery = await created(ledger, recipients={address: RecipientRecord() for address in addresses})
    await ledger.record(concluded(await claimed(ledger, delivery), Event.REFUSE), owner="a")
    assert set((await stored(ledger, delivery.key)).recipients) == set(addresses)


async def test_a_hundred_recipients_with_long_replies_fit(ledger: Ledger) -> None:
    text = "\n".join(["The next hop has a lot to say. ü" * 12] * 4)
    delivery = await created(
        ledger, recipients={f"user{number:03}@example.com": RecipientRecord() for number in range(100)}
    )
    record = await claimed(ledger, delivery)
    reply = Reply.heard(451, f"4.7.1 {text}")
    recipients = {
        address: recipient.model_copy(update={"state": State.DEFERRED, "reply": reply})
        for address, recipient in record.recipients.items()
    }
    await ledger.record(record.model_copy(update={"recipients": recipients}), owner="a")
    found = await stored(ledger, delivery.key)
    assert found.recipients == recipients
    assert len(found.model_dump_json()) > 100_000


async def test_times_are_kept_in_whole_milliseconds(ledger: Ledger) -> None:
    delivery = await created(ledger)
    sharp = NOW.replace(microsecond=123_456)
    record = await claimed(ledger, delivery, now=sharp, until=sharp + timedelta(seconds=1))
    assert record.lease is not None
    assert record.lease.until.microsecond == 123_000
    await ledger.mark_queued(delivery.key, attempt=1, job_at=sharp)
    assert (await stored(ledger, delivery.key)).job_at == sharp.replace(microsecond=123_000)


# claim


async def test_a_claim_shows_its_lease_and_its_attempt(ledger: Ledger) -> None:
    delivery = await created(ledger)
    record = await claimed(ledger, delivery, owner="a")
    assert record.lease is not None
    assert (record.lease.owner, record.lease.until) == ("a", LEASE_END)
    [attempt] = record.attempts
    assert (attempt.attempt, attempt.owner, attempt.started) == (1, "a", NOW)
    assert attempt.duration is None
    assert not attempt.ambiguous
    assert (await stored(ledger, delivery.key)).attempts == record.attempts


async def test_a_live_lease_keeps_others_out_and_says_until_when(ledger: Ledger) -> None:
    delivery = await created(ledger)
    await claimed(ledger, delivery, owner="a")
    assert await claim(ledger, delivery.key, 1, "b") == LeaseHeld(LEASE_END)
    just_before = LEASE_END - timedelta(milliseconds=1)
    assert await claim(ledger, delivery.key, 1, "b", now=just_before) == LeaseHeld(LEASE_END)
    assert len((await stored(ledger, delivery.key)).attempts) == 1


async def test_of_claims_at_the_same_time_one_wins(ledger: Ledger) -> None:
    delivery = await created(ledger)
    results = await asyncio.gather(*(claim(ledger, delivery.key, 1, f"owner {n}") for n in range(10)))
    assert sum(isinstance(result, Claimed) for result in results) == 1
    assert sum(isinstance(result, LeaseHeld) for result in results) == 9


async def test_a_lease_ends_at_its_until_and_the_earlier_attempt_is_ambiguous_then(ledger: Ledger) -> None:
    delivery = await created(ledger)
    await claimed(ledger, delivery, owner="a")
    record = await claimed(
        ledger, delivery, owner="b", now=LEASE_END, until=LEASE_END + timedelta(seconds=100)
    )
    assert [(attempt.owner, attempt.ambiguous) for attempt in record.attempts] == [("a", True), ("b", False)]
    assert record.lease is not None
    assert record.lease.owner == "b"


async def test_dynamodb_a_claim_repeated_by_its_own_owner_is_the_same_claim(ledger: Ledger) -> None:
    delivery = await created(ledger)
    first = await claimed(ledger, delivery, owner="a")
    assert await claim(ledger, delivery.key, 1, "a") == Claimed(first)
    assert len((await stored(ledger, delivery.key)).attempts) == 1


async def test_a_job_of_a_passed_or_coming_attempt_is_stale(ledger: Ledger) -> None:
    delivery = await after(ledger, Event.DEFER)
    assert delivery.attempt == 2
    assert await claim(ledger, delivery.key, 1, "b") == Stale(delivery)
    assert await claim(ledger, delivery.key, 3, "b") == Stale(delivery)
    assert await stored(ledger, delivery.key) == delivery


async def test_a_job_of_a_passed_attempt_is_stale_also_while_the_next_one_is_leased(ledger: Ledger) -> None:
    delivery = await after(ledger, Event.DEFER)
    await claimed(ledger, delivery, owner="b")
    assert isinstance(await claim(ledger, delivery.key, 1, "c"), Stale)


@pytest.mark.parametrize("event", [Event.ACCEPT, Event.REFUSE])
async def test_a_final_delivery_cannot_be_claimed(ledger: Ledger, event: Event) -> None:
    delivery = await after(ledger, event)
    assert await claim(ledger, delivery.key, delivery.attempt, "b") == Stale(delivery)


async def test_a_held_delivery_cannot_be_claimed(ledger: Ledger) -> None:
    delivery = await created(ledger)
    assert await ledger.record_unclaimed(held(delivery), attempt=1, now=NOW)
    result = await claim(ledger, delivery.key, 1, "a")
    assert isinstance(result, Stale)
    assert result.record.status is State.HELD


async def test_a_delivery_that_is_not_there_is_missing(ledger: Ledger) -> None:
    assert await claim(ledger, NOBODY, 1, "a") == Missing()
    assert await ledger.delivery(NOBODY) is None


async def test_a_claim_of_a_deferred_delivery_wakes_its_recipients_only_for_the_holder(
    ledger: Ledger,
) -> None:
    delivery = await after(ledger, Event.DEFER)
    record = await claimed(ledger, delivery, owner="b")
    assert record.status is State.QUEUED
    assert (await stored(ledger, delivery.key)).status is State.DEFERRED


# record


async def test_a_record_is_read_back_whole_and_drops_the_lease(ledger: Ledger) -> None:
    delivery = await created(ledger)
    record = concluded(await claimed(ledger, delivery), Event.DEFER, reason=None, site="mx.example")
    await ledger.record(record, owner="a", owes=["delayed-1"])
    assert await stored(ledger, delivery.key) == record.model_copy(
        update={"lease": None, "reports": {"delayed-1": "owed"}}
    )


async def test_what_a_record_no_longer_has_is_gone(ledger: Ledger) -> None:
    delivery = await after(ledger, Event.DEFER, site="mx.example", job_at=LATER)
    record = concluded(await claimed(ledger, delivery, owner="b"), Event.ACCEPT, site=None)
    await ledger.record(record, owner="b")
    found = await stored(ledger, delivery.key)
    assert (found.next_attempt_at, found.job_at, found.site, found.lease) == (None, None, None, None)
    assert found.status is State.SENT


async def test_dynamodb_a_record_of_a_lost_lease_writes_nothing(ledger: Ledger) -> None:
    delivery = await created(ledger)
    late = concluded(await claimed(ledger, delivery, owner="a"), Event.REFUSE)
    await claimed(ledger, delivery, owner="b", now=LEASE_END, until=LEASE_END + timedelta(seconds=100))
    before = await stored(ledger, delivery.key)
    with pytest.raises(LeaseLost):
        await ledger.record(late, owner="a", owes=["failed-1"])
    assert await stored(ledger, delivery.key) == before


async def test_an_expired_lease_that_nobody_took_still_covers_its_record(ledger: Ledger) -> None:
    delivery = await created(ledger)
    record = await claimed(ledger, delivery, until=NOW + timedelta(milliseconds=1))
    await ledger.record(concluded(record, Event.ACCEPT), owner="a")
    assert (await stored(ledger, delivery.key)).status is State.SENT


async def test_dynamodb_a_lease_covers_one_record_only(ledger: Ledger) -> None:
    delivery = await created(ledger)
    record = concluded(await claimed(ledger, delivery), Event.ACCEPT)
    await ledger.record(record, owner="a")
    before = await stored(ledger, delivery.key)
    with pytest.raises(LeaseLost):
        await ledger.record(record, owner="a")
    assert await stored(ledger, delivery.key) == before


async def test_a_record_without_a_claim_or_a_delivery_is_refused(ledger: Ledger) -> None:
    delivery = await created(ledger)
    with pytest.raises(LeaseLost):
        await ledger.record(delivery, owner="a")
    message = new_message()
    unknown = new_delivery(message)
    with pytest.raises(LeaseLost):
        await ledger.record(unknown, owner="a")
    assert await ledger.delivery(unknown.key) is None


async def test_reports_sent_while_an_attempt_ran_stay_sent(ledger: Ledger) -> None:
    delivery = await after(ledger, Event.DEFER)
    first = await claimed(ledger, delivery, owner="b")
    await ledger.record(concluded(first, Event.DEFER), owner="b", owes=["delayed-2", "failed-2"])
    delivery = await stored(ledger, delivery.key)
    second = await claimed(ledger, delivery, owner="c", now=NOW, until=LEASE_END)
    await ledger.mark_reported(delivery.key, "delayed-2")
    await ledger.record(concluded(second, Event.REFUSE), owner="c", owes=["failed-3", "delayed-2"])
    assert (await stored(ledger, delivery.key)).reports == {
        "delayed-2": "sent",
        "failed-2": "owed",
        "failed-3": "owed",
    }


async def test_a_record_never_changes_what_a_delivery_is(ledger: Ledger) -> None:
    delivery = await created(ledger)
    record = concluded(await claimed(ledger, delivery), Event.DEFER)
    changed = record.model_copy(update={"domain": "other.example", "siblings": 9, "expires": NOW})
    await ledger.record(changed, owner="a")
    found = await stored(ledger, delivery.key)
    assert (found.domain, found.siblings, found.expires) == ("example.com", 1, delivery.expires)


async def test_only_the_last_attempts_are_kept(ledger: Ledger) -> None:
    delivery = await created(ledger)
    for number in range(MAX_ATTEMPTS_KEPT + 3):
        owner = f"owner {number}"
        record = concluded(await claimed(ledger, delivery, owner=owner), Event.DEFER)
        await ledger.record(record, owner=owner)
        delivery = await stored(ledger, delivery.key)
    assert len(delivery.attempts) == MAX_ATTEMPTS_KEPT
    assert delivery.attempts[-1].attempt == MAX_ATTEMPTS_KEPT + 3


# record_unclaimed


async def test_an_outcome_without_a_claim_is_written_while_the_delivery_is_open(ledger: Ledger) -> None:
    delivery = await created(ledger)
    outcome = delivery.model_copy(update={"attempt": 2, "next_attempt_at": LATER, "recipients": {
        "user@example.com": RecipientRecord(state=State.DEFERRED, attempt=1)
    }})  # fmt: skip
    assert await ledger.record_unclaimed(outcome, attempt=1, now=NOW, owes=["delayed-1"])
    assert await stored(ledger, delivery.key) == outcome.model_copy(update={"reports": {"delayed-1": "owed"}})


async def test_an_outcome_without_a_claim_ends_a_lease_that_is_over(ledger: Ledger) -> None:
    delivery = await created(ledger)
    dead = await claimed(ledger, delivery)
    assert not await ledger.record_unclaimed(held(dead), attempt=1, now=LEASE_END - timedelta(seconds=1))
    assert await ledger.record_unclaimed(held(dead), attempt=1, now=LEASE_END)
    assert (await stored(ledger, delivery.key)).lease is None
    with pytest.raises(LeaseLost):
        await ledger.record(concluded(dead, Event.ACCEPT), owner="a")


async def test_an_outcome_without_a_claim_of_another_attempt_is_refused(ledger: Ledger) -> None:
    delivery = await after(ledger, Event.DEFER)
    assert not await ledger.record_unclaimed(held(delivery), attempt=1, now=NOW)
    assert await stored(ledger, delivery.key) == delivery


async def test_an_outcome_without_a_claim_of_a_final_delivery_is_refused(ledger: Ledger) -> None:
    delivery = await after(ledger, Event.ACCEPT)
    assert not await ledger.record_unclaimed(held(delivery), attempt=delivery.attempt, now=NOW)
    assert await stored(ledger, delivery.key) == delivery


async def test_an_outcome_without_a_claim_needs_its_delivery(ledger: Ledger) -> None:
    message = new_message()
    unknown = new_delivery(message)
    assert not await ledger.record_unclaimed(unknown, attempt=1, now=NOW)
    assert await ledger.delivery(unknown.key) is None


# mark_queued and mark_reported


async def test_a_job_is_noted_only_for_the_attempt_that_the_ledger_waits_for(ledger: Ledger) -> None:
    delivery = await after(ledger, Event.DEFER)
    await ledger.mark_queued(delivery.key, attempt=1, job_at=LATER)
    await ledger.mark_queued(delivery.key, attempt=3, job_at=LATER)
    assert (await stored(ledger, delivery.key)).job_at is None
    await ledger.mark_queued(delivery.key, attempt=2, job_at=LATER)
    assert (await stored(ledger, delivery.key)).job_at == LATER


async def test_no_job_is_noted_for_a_final_or_unknown_delivery(ledger: Ledger) -> None:
    delivery = await after(ledger, Event.ACCEPT)
    await ledger.mark_queued(delivery.key, attempt=delivery.attempt, job_at=LATER)
    assert await stored(ledger, delivery.key) == delivery
    await ledger.mark_queued(NOBODY, attempt=1, job_at=LATER)
    assert await ledger.delivery(NOBODY) is None


@pytest.mark.parametrize("state", ["sent", "switched_off", "automatic", "over_limit"])
async def test_a_report_is_marked_once_and_only_if_it_was_owed(ledger: Ledger, state: ReportState) -> None:
    delivery = await created(ledger)
    record = concluded(await claimed(ledger, delivery), Event.REFUSE)
    await ledger.record(record, owner="a", owes=["failed-1"])
    for event in ("failed-1", "failed-1", "failed-2", "x y.z#"):
        await ledger.mark_reported(delivery.key, event, state)
    await ledger.mark_reported(delivery.key, "failed-1")
    found = await stored(ledger, delivery.key)
    assert found.reports == {"failed-1": state}
    assert found.is_settled
    await ledger.mark_reported(NOBODY, "failed-1")


# settle and close


async def test_settling_is_idempotent_and_the_set_tells_when_it_is_complete(ledger: Ledger) -> None:
    message = new_message(deliveries=2)
    first, second = new_delivery(message), new_delivery(message, "example.net")
    await ledger.create(message, [first, second])
    for _ in range(2):
        settled = await ledger.settle(first.key)
        assert settled is not None
        assert settled.settled == {first.delivery}
        assert not settled.is_settled
    settled = await ledger.settle(second.key)
    assert settled is not None
    assert settled.is_settled
    assert await ledger.message(message.message_id) == settled


async def test_dynamodb_settling_from_several_workers_at_once_loses_none(ledger: Ledger) -> None:
    message = new_message(deliveries=10)
    deliveries = [new_delivery(message, f"d{number}.example") for number in range(10)]
    await ledger.create(message, deliveries)
    results = await asyncio.gather(*(ledger.settle(delivery.key) for delivery in deliveries))
    assert sum(result is not None and result.is_settled for result in results) >= 1
    found = await ledger.message(message.message_id)
    assert found is not None
    assert found.is_settled


async def test_settling_may_close_in_the_same_write_and_the_first_time_counts(ledger: Ledger) -> None:
    delivery = await created(ledger)
    settled = await ledger.settle(delivery.key, forget_at=LATER)
    assert settled is not None
    assert (settled.is_settled, settled.forget_at) == (True, LATER)
    again = await ledger.settle(delivery.key, forget_at=LATER + timedelta(days=1))
    assert again == settled
    await ledger.close(delivery.message_id, forget_at=LATER + timedelta(days=2))
    assert await ledger.message(delivery.message_id) == settled


async def test_closing_is_idempotent(ledger: Ledger) -> None:
    delivery = await created(ledger)
    for _ in range(2):
        await ledger.close(delivery.message_id, forget_at=LATER)
    found = await ledger.message(delivery.message_id)
    assert found is not None
    assert found.forget_at == LATER


async def test_what_is_not_there_is_neither_settled_nor_closed(ledger: Ledger) -> None:
    assert await ledger.settle(NOBODY, forget_at=LATER) is None
    await ledger.close(NOBODY.message_id, forget_at=LATER)
    assert await ledger.message(NOBODY.message_id) is None


async def test_every_method_says_so_when_the_store_does_not_answer(dynamodb: DynamoDBClient) -> None:
    ledger = DynamoLedger(dynamodb, "no-such-table")
    message = new_message()
    delivery = new_delivery(message)
    calls = [
        ledger.create(message, [delivery]),
        ledger.claim(delivery.key, attempt=1, owner="a", now=NOW, until=LATER),
        ledger.record(delivery, owner="a"),
        ledger.record_unclaimed(delivery, attempt=1, now=NOW),
        ledger.mark_queued(delivery.key, attempt=1, job_at=NOW),
        ledger.mark_reported(delivery.key, "failed-1"),
        ledger.settle(delivery.key),
        ledger.close(message.message_id, forget_at=NOW),
        ledger.message(message.message_id),
        ledger.delivery(delivery.key),
        ledger.deliveries(message.message_id),
        ledger.listed(State.DEFERRED, 0),
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [LedgerTrouble] * len(calls)
