"""`queue list` and `queue view`: what the ledger says, in order, with what comes next."""

from datetime import timedelta
from typing import get_args

import pytest

from empath.control.documents import listing_document, message_document
from empath.control.errors import BadUsage, ControlError
from empath.control.queue_reading import (
    Depth,
    list_deliveries,
    message_and_deliveries,
    read_message_id,
    read_statuses,
)
from empath.control.story import next_of, told_attempt, told_report
from empath.domain.delivery_state import LISTED, State
from empath.domain.outcome import Deferred, Failed
from empath.domain.records import Attempt, Lease, ReportState
from empath.domain.reply import Reply
from empath.ports import QueueName
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

BUSY = Deferred(Reply.heard(451, "4.7.1 later"))
UNKNOWN = Failed(Reply.heard(550, "5.1.1 no such user"))


async def first_attempts(relay: MemoryRelay, deliveries: int) -> None:
    """Run until every delivery was tried and nothing but waiting is left."""

    def is_waiting() -> bool:
        records = relay.ledger.all_deliveries()
        tried = [record for record in records if record.attempts]
        return len(tried) == len(records) >= deliveries and not any(r.owes_reports for r in records)

    await relay.run(until=is_waiting)


@pytest.fixture
async def relay() -> MemoryRelay:
    """One message to a good, a deferring and a rejecting domain, after its first attempts."""
    dialer = ScriptedDialer()
    dialer.host("defer.test").outcomes["bob@defer.test"] = BUSY
    dialer.host("reject.test").outcomes["bob@reject.test"] = UNKNOWN
    relay = MemoryRelay(dialer=dialer)
    await relay.submit("ann@a.test", ["bob@good.test", "bob@defer.test", "bob@reject.test"])
    await first_attempts(relay, 4)  # with that of the report
    return relay


async def test_the_listing_shows_all_but_the_happy(relay: MemoryRelay) -> None:
    rows, has_more = await list_deliveries(relay.ledger, sorted(LISTED), 10)
    assert {(row.key.delivery, row.status) for row in rows} == {
        ("delivery#defer.test", State.DEFERRED),
        ("delivery#reject.test", State.FAILED),
    }
    assert not has_more
    assert [row.at for row in rows] == sorted(row.at for row in rows)


async def test_a_limit_says_that_there_is_more(relay: MemoryRelay) -> None:
    rows, has_more = await list_deliveries(relay.ledger, sorted(LISTED), 1)
    assert (len(rows), has_more) == (1, True)


async def test_a_listing_longer_than_a_page_is_read_to_its_end() -> None:
    dialer = ScriptedDialer()
    dialer.host("defer.test").outcomes["bob@defer.test"] = BUSY
    relay = MemoryRelay(dialer=dialer)
    await relay.control.set_policy("defer.test", {"circuit": {"enabled": False}})
    for _ in range(250):
        await relay.submit("ann@a.test", ["bob@defer.test"])
    await first_attempts(relay, 250)
    rows, _ = await list_deliveries(relay.ledger, [State.DEFERRED], 1000)
    assert len(rows) == len({row.key for row in rows}) == 250


async def test_the_listings_document_is_what_was_published(relay: MemoryRelay) -> None:
    rows, has_more = await list_deliveries(relay.ledger, [State.DEFERRED], 10)
    depths = [Depth(QueueName.RETRY, is_dead=False, visible=1, in_flight=2, delayed=3)]
    document = listing_document(rows, depths, has_more=has_more)
    (delivery,) = document["deliveries"]
    assert set(delivery) == {
        "message_id", "delivery", "status", "at", "attempts", "next_attempt_at", "job_at", "reason",
    }  # fmt: skip
    assert (delivery["status"], delivery["reason"]) == ("DEFERRED", "next_hop_reply")
    assert delivery["attempts"] >= 1
    assert document["queues"] == [
        {"queue": "retry", "dead_letters": False, "visible": 1, "in_flight": 2, "delayed": 3}
    ]


async def test_the_view_tells_every_recipient_and_attempt(relay: MemoryRelay) -> None:
    (message_id,) = [
        message.message_id for message in relay.ledger.messages() if message.reverse_path is not None
    ]
    message, deliveries = await message_and_deliveries(relay.ledger, message_id)
    document = message_document(message_id, message, deliveries, relay.clock.now())
    by_domain = {delivery["domain"]: delivery for delivery in document["deliveries"]}
    assert document["message"]["reverse_path"] == "ann@a.test"
    assert by_domain["good.test"]["recipients"][0]["state"] == "SENT"
    assert by_domain["good.test"]["next"]["step"] == "nothing"
    assert by_domain["defer.test"]["next"]["step"] == "attempt"
    assert by_domain["defer.test"]["next"]["at"] is not None
    reject = by_domain["reject.test"]
    assert reject["recipients"][0]["reply"] == {"code": 550, "status": "5.1.1", "text": "no such user"}
    assert reject["attempts"][0]["ambiguous"] is False
    assert list(reject["reports"].values()) == ["sent"]


async def test_an_unknown_message_is_told(relay: MemoryRelay) -> None:
    with pytest.raises(ControlError, match="knows no message"):
        await message_and_deliveries(relay.ledger, "01ARZ3NDEKTSV4RRFFQ69G5FAV")


async def test_what_comes_next_follows_from_the_record(relay: MemoryRelay) -> None:
    now = relay.clock.now()
    (record,) = [record for record in relay.ledger.all_deliveries() if record.domain == "defer.test"]
    leased = record.model_copy(update={"lease": Lease(owner="x", until=now + timedelta(seconds=1))})
    assert next_of(leased, now).step == "attempt_running"
    assert next_of(leased, now + timedelta(seconds=1)).step == "attempt"
    last = record.model_copy(update={"next_attempt_at": record.expires})
    assert next_of(last, now).text == "the last attempt"
    recipients = {
        address: recipient.model_copy(update={"state": State.HELD})
        for address, recipient in record.recipients.items()
    }
    assert next_of(record.model_copy(update={"recipients": recipients}), now).step == "release"
    (failed,) = [record for record in relay.ledger.all_deliveries() if record.domain == "reject.test"]
    assert next_of(failed.model_copy(update={"reports": {"failed-1": "owed"}}), now).step == "report"


async def test_an_attempt_without_record_may_have_been_sent(relay: MemoryRelay) -> None:
    now = relay.clock.now()
    (record,) = [record for record in relay.ledger.all_deliveries() if record.domain == "defer.test"]
    lost = Attempt(attempt=1, started=now, owner="x")
    record = record.model_copy(
        update={"attempts": (lost,), "lease": Lease(owner="x", until=now + timedelta(seconds=1))}
    )
    assert told_attempt(lost, record, now) == "under way"
    assert "may have been sent" in told_attempt(lost, record, now + timedelta(seconds=1))
    ambiguous = lost.model_copy(update={"duration": 1.0, "ambiguous": True})
    assert "may have been sent" in told_attempt(ambiguous, record, now)


@pytest.mark.parametrize("text", ["sent", "QUEUED", "nonsense", ""])
def test_a_status_that_is_not_listed_is_named(text: str) -> None:
    with pytest.raises(BadUsage, match="is not listed: use deferred, expired, failed, held"):
        read_statuses([text])


def test_statuses_are_read_in_any_case_and_once() -> None:
    assert read_statuses(["Failed", "failed", "DEFERRED"]) == [State.FAILED, State.DEFERRED]
    assert set(read_statuses([])) == LISTED


@pytest.mark.parametrize("text", ["", "x", "01ARZ3NDEKTSV4RRFFQ69G5FAI", "01ARZ3NDEKTSV4RRFFQ69G5FAVX"])
def test_what_is_no_message_id_is_named(text: str) -> None:
    with pytest.raises(BadUsage, match="is no message id"):
        read_message_id(text)


def test_a_message_id_is_read_in_any_case() -> None:
    assert read_message_id("01arz3ndektsv4rrffq69g5fav") == "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.mark.parametrize("state", get_args(ReportState))
def test_what_became_of_a_report_is_told(state: ReportState) -> None:
    assert told_report(state).startswith({"owed": "owed", "sent": "sent"}.get(state, "not sent: "))
