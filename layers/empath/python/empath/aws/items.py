"""Records as items of the ledger's table and back.

    pk           sk                  what
    <message id> message             a MessageRecord
    <message id> delivery#<domain>   a DeliveryRecord

An item is read by people in the DynamoDB console, so its attributes are the records' own words. Beside them:
`schema`; `status`, what all recipients come to; `expires_at`, the table's time to live in epoch seconds; and,
in the states that somebody or the retry clock looks for, `listing` (`<STATUS>#<shard>`) and `at`, the keys of
the `listing` index. `metadata` is JSON text: hooks may put anything of JSON there, and DynamoDB's maps cannot
hold everything of it (empty names, long numbers, deep nesting).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from empath.aws.attributes import Item, decode_item, encode_item
from empath.domain.delivery_state import LISTED, State
from empath.domain.envelope import Priority
from empath.domain.errors import LedgerTrouble
from empath.domain.instant import format_instant, parse_instant
from empath.domain.records import DeliveryKey, DeliveryRecord, MessageRecord
from empath.ports.ledger import Listed, listing_shard

SCHEMA = 1
MESSAGE = "message"
DELIVERY_PREFIX = "delivery#"

R = TypeVar("R", MessageRecord, DeliveryRecord)

_PRIORITIES: Mapping[object, Priority] = {"high": "high", "normal": "normal", "bulk": "bulk"}

# What a delivery is, as against what has become of it.
DELIVERY_IDENTITY = frozenset(
    {"pk", "sk", "schema", "domain", "siblings", "received_at", "expires", "priority", "tenant"}
)
# Of what has become of it, the attributes that an item may go without.
DELIVERY_OPTIONAL = frozenset(
    {
        "next_attempt_at",
        "job_at",
        "lease",
        "reason",
        "site",
        "waited",
        "forget_at",
        "expires_at",
        "listing",
        "at",
    }
)


def key_of_message(message_id: str) -> Item:
    return {"pk": {"S": message_id}, "sk": {"S": MESSAGE}}


def key_of_delivery(key: DeliveryKey) -> Item:
    return {"pk": {"S": key.message_id}, "sk": {"S": key.delivery}}


def listing_key(status: State, shard: int) -> str:
    return f"{status}#{shard}"


def time_to_live(forget_at_text: str) -> int:
    """`expires_at` for a `forget_at`: whole epoch seconds, not before it."""
    return math.ceil(parse_instant(forget_at_text).timestamp())


def item_of_message(record: MessageRecord) -> Item:
    words = record.model_dump(exclude_none=True, exclude={"message_id", "metadata", "settled"})
    words |= {"pk": record.message_id, "sk": MESSAGE, "schema": SCHEMA}
    if record.metadata:
        words["metadata"] = json.dumps(record.metadata, ensure_ascii=False, separators=(",", ":"))
    if record.settled:
        words["settled"] = record.settled
    if record.forget_at is not None:
        words["expires_at"] = time_to_live(words["forget_at"])
    return encode_item(words)


def item_of_delivery(record: DeliveryRecord) -> Item:
    words = record.model_dump(exclude_none=True, exclude={"message_id", "delivery"})
    status = record.status
    words |= {"pk": record.message_id, "sk": record.delivery, "schema": SCHEMA, "status": status}
    if record.forget_at is not None:
        words["expires_at"] = time_to_live(words["forget_at"])
    if status in LISTED:
        words["listing"] = listing_key(status, listing_shard(record.message_id))
        words["at"] = format_instant(record.listed_at())
    return encode_item(words)


def message_of_item(item: Mapping[str, Any]) -> MessageRecord:
    """Raises LedgerTrouble for an item that this release cannot read."""
    words = _words(item)
    words["message_id"] = words.pop("pk", None)
    if "metadata" in words:
        try:
            words["metadata"] = json.loads(words["metadata"])
        except (TypeError, ValueError) as error:
            raise LedgerTrouble(f"an item whose metadata is no JSON: {error}") from error
    return _read(MessageRecord, words)


def delivery_of_item(item: Mapping[str, Any]) -> DeliveryRecord:
    """Raises LedgerTrouble for an item that this release cannot read."""
    words = _words(item)
    words["message_id"], words["delivery"] = words.pop("pk", None), words.pop("sk", None)
    return _read(DeliveryRecord, words)


def listed_of_item(item: Mapping[str, Any]) -> Listed:
    """A row of the `listing` index, which holds only some attributes of its item.

    Raises LedgerTrouble for one that this release cannot read.
    """
    try:
        words = decode_item(item)
        return Listed(
            key=DeliveryKey(message_id=words["pk"], delivery=words["sk"]),
            status=State(words["status"]),
            at=parse_instant(words["at"]),
            attempt=int(words["attempt"]),
            job_at=_instant(words.get("job_at")),
            next_attempt_at=_instant(words.get("next_attempt_at")),
            reason=words.get("reason"),
            priority=_PRIORITIES.get(words.get("priority"), "normal"),
            tenant=words.get("tenant"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerTrouble(f"a listed item that is no delivery: {type(error).__name__}: {error}") from error


def record_of_image(image: Mapping[str, Any]) -> MessageRecord | DeliveryRecord | None:
    """The record in a stream's old or new image; None for an item that is none of ours."""
    sort_key = image.get("sk", {}).get("S", "")
    if sort_key == MESSAGE:
        return message_of_item(image)
    if sort_key.startswith(DELIVERY_PREFIX):
        return delivery_of_item(image)
    return None


def _words(item: Mapping[str, Any]) -> dict[str, Any]:
    try:
        words = decode_item(item)
    except ValueError as error:
        raise LedgerTrouble(f"an item that is not ours: {error}") from error
    if words.get("schema") != SCHEMA:
        raise LedgerTrouble(f"an item of schema {words.get('schema')!r} where this release reads {SCHEMA}")
    return words


def _read(model: type[R], words: Mapping[str, Any]) -> R:
    try:
        return model.model_validate(words)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise LedgerTrouble(f"an item that is no {model.__name__}: {faults}") from None


def _instant(text: str | None) -> Any:
    return parse_instant(text) if text is not None else None
