"""The rules of what does not fit together, one moment before and at their bounds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from empath.domain.delivery_state import State
from empath.domain.records import Attempt, DeliveryRecord, Lease, MessageRecord, RecipientRecord
from empath.pipeline.conclude import RETENTION
from empath.pipeline.discrepancies import (
    OWED_FOR,
    UPLOAD_LIFE,
    Kind,
    Story,
    in_story,
    message_id_of,
    of_object,
    of_upload,
)
from empath.ports.inventory import RawObject, Unreadable, Upload
from empath.testing.clock import START

ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
HOUR = timedelta(hours=1)
MOMENT = timedelta(milliseconds=1)


def message(**fields: Any) -> MessageRecord:
    given: dict[str, Any] = {"spool_key": f"messages/{ID}", "size": 1, "received_at": START, "deliveries": 1}
    return MessageRecord(message_id=ID, **(given | fields))


def delivery(state: State = State.QUEUED, **fields: Any) -> DeliveryRecord:
    given: dict[str, Any] = {
        "delivery": "delivery#b.test",
        "domain": "b.test",
        "siblings": 1,
        "received_at": START,
        "expires": START + timedelta(days=5),
        "recipients": {"bob@b.test": RecipientRecord(state=state)},
    }
    return DeliveryRecord(message_id=ID, **(given | fields))


def kinds(story: Story, after: timedelta, patience: timedelta = HOUR) -> list[Kind]:
    return [finding.kind for finding in in_story(story, now=START + after, patience=patience)]


LEASED = Lease(owner="w", until=START + 2 * HOUR)
BEGUN = Attempt(attempt=1, started=START + 2 * HOUR, owner="w")


@pytest.mark.parametrize(
    ("record", "due"),
    [
        (delivery(), 0 * HOUR),
        (delivery(State.DEFERRED), 0 * HOUR),
        (delivery(State.DEFERRED, next_attempt_at=START + 2 * HOUR), 2 * HOUR),
        (delivery(State.DEFERRED, next_attempt_at=START + HOUR, job_at=START + 2 * HOUR), 2 * HOUR),
        (delivery(lease=LEASED), 2 * HOUR),
        (delivery(State.DEFERRED, attempts=(BEGUN,)), 2 * HOUR),
    ],
    ids=["queued", "deferred", "next attempt", "its job", "leased", "tried"],
)
def test_a_job_is_lost_when_it_is_later_than_patience(record: DeliveryRecord, due: timedelta) -> None:
    story = Story(ID, message(), [record])
    assert kinds(story, due + HOUR - MOMENT) == []
    assert kinds(story, due + HOUR) == [Kind.LOST_JOB]


@pytest.mark.parametrize("state", sorted(set(State) - {State.QUEUED, State.DEFERRED}))
def test_who_waits_for_nobody_has_lost_no_job(state: State) -> None:
    assert Kind.LOST_JOB not in kinds(Story(ID, message(), [delivery(state)]), timedelta(days=100))


def test_an_end_is_to_be_counted_within_patience_after_its_last_attempt() -> None:
    last = Attempt(attempt=1, started=START + HOUR, owner="w", duration=60.0)
    ended = HOUR + timedelta(minutes=1)
    story = Story(ID, message(), [delivery(State.SENT, attempts=(last,))])
    assert kinds(story, ended + HOUR - MOMENT) == []
    assert kinds(story, ended + HOUR) == [Kind.NOT_SETTLED]
    owing = delivery(State.FAILED, attempts=(last,), reports={"failed-1": "owed"})
    assert kinds(Story(ID, message(), [owing]), ended + HOUR - MOMENT) == []
    assert kinds(Story(ID, message(), [owing]), ended + HOUR) == [Kind.OWED_REPORT]


def test_a_delivery_that_was_counted_and_forgotten_is_not_missing() -> None:
    two = message(deliveries=2, settled=frozenset({"delivery#a.test"}))
    waiting = delivery(next_attempt_at=START + timedelta(days=40))
    assert kinds(Story(ID, two, [waiting]), timedelta(days=32)) == []
    assert kinds(Story(ID, two, []), timedelta(days=32)) == [Kind.INCOMPLETE_MESSAGE]


def test_an_incomplete_message_is_closed_only_when_no_job_can_bring_the_rest() -> None:
    def repairable(after: timedelta, *records: DeliveryRecord) -> list[bool]:
        story = Story(ID, message(deliveries=2), records)
        found = in_story(story, now=START + after, patience=HOUR)
        return [one.is_repairable for one in found if one.kind is Kind.INCOMPLETE_MESSAGE]

    assert repairable(HOUR - MOMENT) == []
    assert repairable(HOUR) == [False]
    assert repairable(OWED_FOR - MOMENT) == [False]
    assert repairable(OWED_FOR) == [True]
    assert repairable(OWED_FOR, delivery(State.SENT)) == [True]
    assert repairable(OWED_FOR, delivery(State.HELD)) == [False]


def test_what_cannot_be_read_is_told_and_nothing_is_made_of_what_it_may_say() -> None:
    broken = Unreadable(ID, "delivery#c.test", "schema 7")
    ended = Story(ID, message(deliveries=2), [delivery(State.SENT)], [broken])
    assert kinds(ended, OWED_FOR) == [Kind.UNREADABLE_ITEM]
    waiting = Story(ID, message(deliveries=2), [delivery()], [broken])
    assert kinds(waiting, HOUR) == [Kind.UNREADABLE_ITEM, Kind.LOST_JOB]
    assert not waiting.is_over
    assert not Story(ID, None, [], [broken]).is_over


def found_object(story: Story, age: timedelta, after: timedelta) -> tuple[Kind, bool] | None:
    found = RawObject(f"messages/{ID}", 1, START + after - age)
    finding = of_object(found, story, now=START + after, patience=HOUR)
    return (finding.kind, finding.is_repairable) if finding is not None else None


def test_an_object_without_message_is_mail_until_no_job_of_it_can_exist() -> None:
    nobody, after = Story(ID, None, []), timedelta(days=60)
    assert found_object(nobody, HOUR - MOMENT, after) is None
    assert found_object(nobody, HOUR, after) == (Kind.UNKNOWN_OBJECT, False)
    assert found_object(nobody, OWED_FOR - MOMENT, after) == (Kind.UNKNOWN_OBJECT, False)
    assert found_object(nobody, OWED_FOR, after) == (Kind.UNKNOWN_OBJECT, True)
    assert found_object(Story(ID, None, [delivery()]), OWED_FOR, after) == (Kind.UNKNOWN_OBJECT, False)


def test_an_object_of_a_closed_message_goes_when_both_are_old_enough_and_nobody_needs_it() -> None:
    closed = message(forget_at=START + RETENTION, settled=frozenset({"delivery#b.test"}))
    over = Story(ID, closed, [delivery(State.SENT)])
    long_ago = timedelta(days=1)
    assert found_object(over, long_ago, HOUR - MOMENT) is None
    assert found_object(over, long_ago, HOUR) == (Kind.SETTLED_OBJECT, True)
    assert found_object(over, HOUR - MOMENT, long_ago) is None
    assert found_object(Story(ID, closed, [delivery()]), long_ago, long_ago) is None
    assert found_object(Story(ID, message(), [delivery(State.SENT)]), long_ago, long_ago) is None


def test_an_upload_is_over_after_its_life() -> None:
    upload = Upload(f"messages/{ID}", "u", START)
    assert of_upload(upload, now=START + UPLOAD_LIFE - MOMENT) is None
    finding = of_upload(upload, now=START + UPLOAD_LIFE)
    assert finding is not None
    assert (finding.kind, finding.message_id) == (Kind.UNFINISHED_UPLOAD, ID)


@pytest.mark.parametrize(
    "key", [ID, "messages/", "messages/x", f"messages/{ID}/x", f"messages/a/{ID}", f"messages/{ID.lower()}"]
)
def test_only_a_messages_own_key_names_it(key: str) -> None:
    assert message_id_of(key) is None
    assert message_id_of(f"messages/{ID}") == ID
