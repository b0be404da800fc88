"""Records and attribute values survive DynamoDB's format, and the console shows words."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.aws import items
from empath.aws.attributes import decode, decode_item, encode
from empath.domain.address import Mailbox
from empath.domain.delivery_state import LISTED, State
from empath.domain.envelope import Source
from empath.domain.errors import LedgerTrouble
from empath.domain.reason import Reason
from empath.domain.records import Attempt, DeliveryRecord, Lease, MessageRecord, Operation, RecipientRecord
from empath.domain.reply import Reply

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.text()
    | st.integers(-(10**37), 10**37)
    | st.floats(allow_nan=False, allow_infinity=False, width=32),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1), inner),
    max_leaves=20,
)


@given(plain)
def test_plain_values_survive_the_attribute_format(value: Any) -> None:
    assert decode(json.loads(json.dumps(encode(value)))) == value


@given(st.frozensets(st.text(min_size=1), min_size=1))
def test_sets_of_text_survive(value: frozenset[str]) -> None:
    assert decode(json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize("value", [b"octets", set(), NOW, object()])
def test_what_the_ledger_does_not_store_is_an_error_of_the_caller(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("-7", -7), ("1.5", 1.5), ("1E+2", 100), ("0.10", 0.1), ("3.0", 3)]
)
def test_numbers_are_read_in_every_spelling_that_dynamodb_gives(text: str, number: float) -> None:
    decoded = decode({"N": text})
    assert decoded == number
    assert type(decoded) is type(number)


def message(**fields: Any) -> MessageRecord:
    given_fields: dict[str, Any] = {
        "message_id": "01J0000000000000000000000A",
        "reverse_path": Mailbox("sender", "example.org"),
        "spool_key": "messages/01J0000000000000000000000A",
        "size": 10,
        "received_at": NOW,
        "deliveries": 2,
    }
    return MessageRecord(**(given_fields | fields))


def delivery(**fields: Any) -> DeliveryRecord:
    given_fields: dict[str, Any] = {
        "message_id": "01J0000000000000000000000A",
        "delivery": "delivery#example.com",
        "domain": "example.com",
        "siblings": 2,
        "received_at": NOW,
        "expires": NOW + timedelta(days=5),
        "recipients": {"user@example.com": RecipientRecord()},
    }
    return DeliveryRecord(**(given_fields | fields))


FULL_MESSAGE = message(
    eight_bit=True,
    smtputf8=True,
    envid="x",
    ret="FULL",
    source=Source(client="192.0.2.1", helo="h", user="u", tls="t", report_of="m/d/e"),
    tenant="acme",
    priority="high",
    metadata={"a": [1, {"b": None}], "": float("1e300"), "long": 10**50},
    prepend="Received: x\r\n",
    trace_header="Root=1",
    settled=frozenset({"delivery#a", "delivery#b"}),
    forget_at=NOW,
)
FULL_DELIVERY = delivery(
    recipients={
        '"a b"@example.com': RecipientRecord(
            state=State.DEFERRED,
            notify=("NEVER",),
            orcpt="rfc822;x",
            reply=Reply.heard(451, "4.7.1 späte\nZeile"),
            reason=Reason.NEXT_HOP_REPLY,
            next_hop="mx[192.0.2.1]:25",
            attempt=1,
        )
    },
    attempt=2,
    attempts=(
        Attempt(
            attempt=1,
            started=NOW,
            owner="o",
            duration=1.25,
            next_hop="mx",
            reply=Reply.of(451, None, "x"),
            reason=Reason.TIMEOUT,
            tls="TLSv1.3",
            ambiguous=True,
        ),
    ),
    next_attempt_at=NOW + timedelta(minutes=1),
    job_at=NOW + timedelta(minutes=1),
    lease=Lease(owner="o", until=NOW),
    reason=Reason.NEXT_HOP_REPLY,
    site="mx.example",
    priority="bulk",
    tenant="shop",
    waited=300,
    reports={"delayed-1": "sent", "failed-2": "owed"},
    operation=Operation(id="01", action="retry", operator="arn:aws:iam::1:user/ann", at=NOW),
    forget_at=NOW,
)


@pytest.mark.parametrize("record", [message(), message(reverse_path=None), FULL_MESSAGE])
def test_a_message_survives_its_item_and_its_stream_image(record: MessageRecord) -> None:
    image = json.loads(json.dumps(items.item_of_message(record)))
    assert items.message_of_item(image) == record
    assert items.record_of_image(image) == record


@pytest.mark.parametrize("record", [delivery(), FULL_DELIVERY])
def test_a_delivery_survives_its_item_and_its_stream_image(record: DeliveryRecord) -> None:
    image = json.loads(json.dumps(items.item_of_delivery(record)))
    assert items.delivery_of_item(image) == record
    assert items.record_of_image(image) == record


def test_every_field_of_the_records_is_tried_above() -> None:
    for record in (FULL_MESSAGE, FULL_DELIVERY):
        defaults = message() if isinstance(record, MessageRecord) else delivery()
        identity = {"message_id", "delivery", "domain", "siblings", "received_at", "expires"}
        identity |= {"reverse_path", "spool_key", "size", "deliveries"}
        fields = set(type(record).model_fields) - identity
        assert {name for name in fields if getattr(record, name) == getattr(defaults, name)} == set()


def test_an_item_reads_as_words() -> None:
    words = decode_item(items.item_of_delivery(FULL_DELIVERY))
    assert words["pk"] == "01J0000000000000000000000A"
    assert words["sk"] == "delivery#example.com"
    assert words["schema"] == 1
    assert words["status"] == "DEFERRED"
    assert words["lease"] == {"owner": "o", "until": "2026-03-01T12:00:00.250Z"}
    assert words["recipients"]['"a b"@example.com']["reply"] == {
        "code": 451,
        "enhanced": "4.7.1",
        "text": "späte\nZeile",
    }
    assert words["reports"] == {"delayed-1": "sent", "failed-2": "owed"}


@pytest.mark.parametrize("state", list(State))
def test_only_states_that_somebody_looks_for_are_in_the_listing(state: State) -> None:
    item = items.item_of_delivery(delivery(recipients={"user@example.com": RecipientRecord(state=state)}))
    assert item["status"] == {"S": state}
    if state in LISTED:
        assert item["listing"]["S"].startswith(f"{state}#")
        assert item["at"] == {"S": "2026-03-01T12:00:00.250Z"}
    else:
        assert not {"listing", "at"} & item.keys()


def test_the_time_to_live_is_not_before_the_time_it_stands_for() -> None:
    for item in (items.item_of_message(FULL_MESSAGE), items.item_of_delivery(FULL_DELIVERY)):
        assert item["expires_at"] == {"N": str(int(NOW.timestamp()) + 1)}
    assert "expires_at" not in items.item_of_message(message())


def test_attributes_of_a_later_minor_release_are_ignored() -> None:
    item = items.item_of_delivery(delivery()) | {"colour": {"S": "blue"}}
    assert items.delivery_of_item(item) == delivery()


def test_an_item_of_another_schema_or_shape_is_trouble_and_not_a_guess() -> None:
    item = items.item_of_delivery(delivery())
    with pytest.raises(LedgerTrouble, match="schema 2 where this release reads 1"):
        items.delivery_of_item(item | {"schema": {"N": "2"}})
    with pytest.raises(LedgerTrouble, match="recipients"):
        items.delivery_of_item(item | {"recipients": {"M": {}}})


def test_an_image_that_is_none_of_ours_is_none() -> None:
    assert items.record_of_image({"pk": {"S": "x"}, "sk": {"S": "something else"}}) is None
    assert items.record_of_image({"pk": {"S": "x"}}) is None


def test_what_an_outcome_writes_and_removes_is_the_whole_item_but_its_identity() -> None:
    item = items.item_of_delivery(FULL_DELIVERY)
    assert items.DELIVERY_IDENTITY | items.DELIVERY_OPTIONAL | {
        "status",
        "recipients",
        "attempt",
        "attempts",
        "reports",
        "operation",  # which only an operator's write writes
    } == set(item)
