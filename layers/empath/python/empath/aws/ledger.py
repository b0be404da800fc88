"""The Ledger on DynamoDB: every change is one conditional write, and its answer tells why it was refused.

    worker A                     the item                       worker B
    claim(attempt 1, owner a) -> lease {a, until 70}
                                                             <- claim(attempt 1, owner b): NO_LIVE_LEASE
                                                                fails, ALL_OLD says LeaseHeld(70)
    (A dies or is paused)        70 passes
                                 lease {b, until 150}        <- claim(attempt 1, owner b)
    record(owner a)           -> LEASE_IS_OURS fails: LeaseLost, nothing is written
                                 attempt 2, no lease         <- record(owner b)
    claim(attempt 1, owner c) -> AT_ATTEMPT fails, ALL_OLD says Stale

The conditions, by name (`expressions`): EXISTS, IS_NEW, AT_ATTEMPT, NO_LIVE_LEASE, LEASE_IS_OURS,
SAME_OPERATION, SAME_DUE, and the statuses, which come from the delivery state table.

The SDK repeats a call whose answer was lost, so every write must bear repetition: a repeated `create` finds
its own items, a repeated `claim` its own lease; `mark_*`, `settle` and `close` change nothing. Only a
repeated `record` cannot be told from a lost lease by its condition; the stage looks for its own attempt then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from empath.aws import items
from empath.aws.attributes import Attribute, Item, encode
from empath.aws.errors import CONDITION_FAILED, code_of, item_of, trouble
from empath.aws.expressions import (
    AT_ATTEMPT,
    EXISTS,
    IS_NEW,
    LEASE_IS_OURS,
    NO_LIVE_LEASE,
    Write,
    instant,
    text,
)
from empath.domain.delivery_state import LISTED, OPEN, Event, State, sources
from empath.domain.errors import LeaseLost, LedgerTrouble
from empath.domain.instant import format_instant, whole_milliseconds
from empath.domain.records import (
    MAX_ATTEMPTS_KEPT,
    Attempt,
    DeliveryKey,
    DeliveryRecord,
    Lease,
    MessageRecord,
    ReportState,
)
from empath.pipeline.batch import all_of
from empath.ports.ledger import Claimed, ClaimResult, LeaseHeld, Listed, Missing, Stale

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

LISTING_INDEX = "listing"

CLAIMABLE = sources(Event.ACCEPT) | sources(Event.WAKE)

MAX_CREATES_AT_ONCE = 25
"""Writes of one `create` under way at a time: a message of a thousand domains leaves room for others."""

CLAIM_ROUNDS = 3

logger = logging.getLogger(__name__)


class DynamoLedger:
    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    async def create(
        self, message: MessageRecord, deliveries: Sequence[DeliveryRecord]
    ) -> Sequence[DeliveryRecord]:
        await self._put_new(items.item_of_message(message))
        # A delivery without its message would be work that nobody can do, hence the message first.
        turns = asyncio.Semaphore(MAX_CREATES_AT_ONCE)

        async def create_one(record: DeliveryRecord) -> DeliveryRecord:
            async with turns:
                item = items.item_of_delivery(record)
                return items.delivery_of_item(await self._put_new(item) or item)

        return await all_of(create_one(record) for record in deliveries)

    async def claim(
        self, key: DeliveryKey, *, attempt: int, owner: str, now: datetime, until: datetime
    ) -> ClaimResult:
        lease = Lease(owner=owner, until=until)
        begun = Attempt(attempt=attempt, started=now, owner=owner)
        write = Write(
            conditions=[AT_ATTEMPT, NO_LIVE_LEASE],
            sets=["#lease = :lease", "#attempts = list_append(#attempts, :begun)"],
            values={
                ":attempt": encode(attempt),
                ":now": instant(now),
                ":lease": encode(lease.model_dump()),
                ":begun": encode([begun.model_dump(exclude_none=True)]),
            },
        )
        write.status_in(CLAIMABLE)
        now = whole_milliseconds(now)
        for _ in range(CLAIM_ROUNDS):
            done, item = await self._update(
                items.key_of_delivery(key), write, f"claiming {key}", answers=True
            )
            if item is None:
                return Missing()
            stored = items.delivery_of_item(item)
            if done:
                return Claimed(stored.begin_attempt())
            if stored.attempt != attempt or stored.status not in CLAIMABLE:
                return Stale(stored)
            if stored.lease is not None and stored.lease.until > now:
                # Our own lease: the claim was made and its answer lost, so the SDK asked again.
                return (
                    Claimed(stored.begin_attempt())
                    if stored.lease.owner == owner
                    else LeaseHeld(stored.lease.until)
                )
            # Only where the refusal did not bring the item along: it changed before it was read.
        raise LedgerTrouble(f"claiming {key}: the delivery changes too quickly")

    async def mark_committing(self, record: DeliveryRecord, *, owner: str, now: datetime) -> None:
        # Nobody but the claim's holder adds an attempt or takes one away, so the place in the list holds.
        place = len(record.attempts) - 1
        write = Write(
            conditions=[LEASE_IS_OURS],
            sets=[f"#attempts[{place}].#commits_at = :now"],
            values={":owner": text(owner), ":now": instant(now)},
        )
        done, _ = await self._update(items.key_of_delivery(record.key), write, f"marking {record.key}")
        if not done:
            raise LeaseLost(f"{record.key}: the claim of {owner} is gone")

    async def record(self, record: DeliveryRecord, *, owner: str, owes: Sequence[str] = ()) -> None:
        write = _outcome(record, owes)
        write.conditions.append(LEASE_IS_OURS)
        write.values[":owner"] = text(owner)
        done, _ = await self._update(items.key_of_delivery(record.key), write, f"recording {record.key}")
        if not done:
            raise LeaseLost(f"{record.key}: the claim of {owner} is gone")

    async def record_unclaimed(
        self, record: DeliveryRecord, *, attempt: int, now: datetime, owes: Sequence[str] = ()
    ) -> bool:
        write = _outcome(record, owes)
        # `#attempt` itself is written too, so the one that is expected has a value of its own.
        write.conditions += ["#attempt = :expected", NO_LIVE_LEASE]
        write.values |= {":expected": encode(attempt), ":now": instant(now)}
        write.status_in(OPEN)
        write.operated_as(record)
        done, _ = await self._update(items.key_of_delivery(record.key), write, f"recording {record.key}")
        return done

    async def operate(
        self,
        record: DeliveryRecord,
        *,
        before: DeliveryRecord,
        now: datetime,
        owes: Sequence[str] = (),
    ) -> bool:
        if record.operation is None:
            raise ValueError("what an operator does has a name")
        write = _outcome(record, owes)
        write.sets.append("#operation = :operation")
        write.conditions += ["#attempt = :expected", NO_LIVE_LEASE]
        write.values |= {
            ":operation": encode(record.operation.model_dump()),
            ":expected": encode(before.attempt),
            ":now": instant(now),
        }
        write.status_in({before.status})
        write.operated_as(before)
        write.due_as(before)
        what = f"changing {record.key}"
        done, item = await self._update(items.key_of_delivery(record.key), write, what, answers=True)
        if done or item is None:
            return done
        stored = items.delivery_of_item(item)
        # Ours: it was written and the answer lost, so the SDK asked again.
        return stored.operation is not None and stored.operation.id == record.operation.id

    async def mark_queued(self, key: DeliveryKey, *, attempt: int, job_at: datetime) -> None:
        write = Write(
            conditions=[AT_ATTEMPT],
            sets=["#job_at = :job_at"],
            values={":attempt": encode(attempt), ":job_at": instant(job_at)},
        )
        write.status_in(OPEN)
        await self._update(items.key_of_delivery(key), write, f"marking {key} as queued")

    async def mark_reported(self, key: DeliveryKey, event: str, state: ReportState = "sent") -> None:
        write = Write(
            conditions=["#reports.#event = :owed"],
            sets=["#reports.#event = :state"],
            names={"#event": event},
            values={":owed": text("owed"), ":state": text(state)},
        )
        await self._update(items.key_of_delivery(key), write, f"marking {key} as reported")

    async def settle(self, key: DeliveryKey, *, forget_at: datetime | None = None) -> MessageRecord | None:
        write = Write(
            conditions=[EXISTS], adds=["#settled :settled"], values={":settled": {"SS": [key.delivery]}}
        )
        if forget_at is not None:
            _forget(write, forget_at)
        done, item = await self._update(
            items.key_of_message(key.message_id), write, f"settling {key}", answers=True
        )
        return items.message_of_item(item) if done and item is not None else None

    async def close(self, message_id: str, *, forget_at: datetime) -> None:
        write = Write(conditions=[EXISTS])
        _forget(write, forget_at)
        await self._update(items.key_of_message(message_id), write, f"closing {message_id}")

    async def message(self, message_id: str) -> MessageRecord | None:
        item = await self._get(items.key_of_message(message_id))
        return items.message_of_item(item) if item is not None else None

    async def delivery(self, key: DeliveryKey) -> DeliveryRecord | None:
        item = await self._get(items.key_of_delivery(key))
        return items.delivery_of_item(item) if item is not None else None

    async def deliveries(self, message_id: str) -> Sequence[DeliveryRecord]:
        records: list[DeliveryRecord] = []
        query: dict[str, Any] = {
            "ConsistentRead": True,
            "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
            "ExpressionAttributeValues": {":pk": text(message_id), ":prefix": text(items.DELIVERY_PREFIX)},
        }
        while True:
            with trouble(LedgerTrouble, f"reading the deliveries of {message_id}"):
                answer = await self._client.query(TableName=self._table, **query)
            records += map(items.delivery_of_item, answer["Items"])
            if not answer.get("LastEvaluatedKey"):
                return records
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def listed(
        self,
        status: State,
        shard: int,
        *,
        before: datetime | None = None,
        limit: int = 100,
        after: Mapping[str, str] | None = None,
    ) -> tuple[Sequence[Listed], Mapping[str, str] | None]:
        if status not in LISTED:
            raise ValueError(f"the listing index does not show {status}")
        listing = items.listing_key(status, shard)
        condition, values = "listing = :listing", {":listing": text(listing)}
        if before is not None:
            condition += " AND #at <= :before"
            values[":before"] = instant(before)
        query: dict[str, Any] = {
            "IndexName": LISTING_INDEX,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
            # One more than asked for tells whether there is a next page at all.
            "Limit": limit + 1,
        }
        if before is not None:
            query["ExpressionAttributeNames"] = {"#at": "at"}
        if after is not None:
            query["ExclusiveStartKey"] = {"listing": text(listing)} | {
                name: text(after[name]) for name in ("pk", "sk", "at")
            }
        with trouble(LedgerTrouble, f"reading the listing {listing}"):
            answer = await self._client.query(TableName=self._table, **query)
        found = answer["Items"]
        if len(found) > limit:
            found = found[:limit]
            last: Mapping[str, Any] | None = found[-1]
        else:
            last = answer.get("LastEvaluatedKey")
        token = {name: last[name]["S"] for name in ("pk", "sk", "at")} if last else None
        return [row for item in found if (row := _listed(item)) is not None], token

    async def _put_new(self, item: Item) -> Item | None:
        """Write an item unless it is there; what is there then, None when it was written."""
        write = Write(conditions=[IS_NEW])
        what = f"creating {item['pk']['S']}/{item['sk']['S']}"
        with trouble(LedgerTrouble, what):
            try:
                await self._client.put_item(
                    TableName=self._table,
                    Item=item,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **write.request(),
                )
                return None
            except ClientError as error:
                if code_of(error) != CONDITION_FAILED:
                    raise
                existing = item_of(error)
        if existing is None:
            existing = await self._get({"pk": item["pk"], "sk": item["sk"]})
        if existing is None:
            raise LedgerTrouble(f"{what}: it is there and cannot be read")
        return existing

    async def _update(
        self, key: Item, write: Write, what: str, *, answers: bool = False
    ) -> tuple[bool, Item | None]:
        """Whether the conditions held; with `answers`, also the item: as it is now, or as it refused."""
        with trouble(LedgerTrouble, what):
            try:
                answer = await self._client.update_item(
                    TableName=self._table,
                    Key=key,
                    ReturnValues="ALL_NEW" if answers else "NONE",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD" if answers else "NONE",
                    **write.request(),
                )
                item: Item | None = answer.get("Attributes")  # type: ignore[assignment]
                return True, item
            except ClientError as error:
                if code_of(error) != CONDITION_FAILED:
                    raise
                refused = item_of(error)
        if answers and refused is None:
            # There is none, or the endpoint is an emulator that does not send it along.
            refused = await self._get(key)
        return False, refused

    async def _get(self, key: Item) -> Item | None:
        with trouble(LedgerTrouble, f"reading {key['pk']['S']}/{key['sk']['S']}"):
            answer = await self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        item: Item | None = answer.get("Item")  # type: ignore[assignment]
        return item or None


def _outcome(record: DeliveryRecord, owes: Sequence[str]) -> Write:
    """Everything that may change about a delivery, the lease dropped, reports only added to; an operation is
    only written by `operate`."""
    kept = record.model_copy(update={"attempts": record.attempts[-MAX_ATTEMPTS_KEPT:], "lease": None})
    words: dict[str, Attribute] = {
        name: value
        for name, value in items.item_of_delivery(kept).items()
        if name not in items.DELIVERY_IDENTITY and name not in ("reports", "operation")
    }
    write = Write(
        sets=[f"#{name} = :{name}" for name in words],
        removes=[f"#{name}" for name in sorted(items.DELIVERY_OPTIONAL - words.keys())],
        values={f":{name}": value for name, value in words.items()},
    )
    for number, event in enumerate(dict.fromkeys(owes)):
        # Meanwhile the report may have been sent; then it stays sent.
        write.sets.append(f"#reports.#event{number} = if_not_exists(#reports.#event{number}, :owed)")
        write.names[f"#event{number}"] = event
        write.values[":owed"] = text("owed")
    return write


def _forget(write: Write, forget_at: datetime) -> None:
    """The first one counts, so that a repeated call changes nothing (and shows nothing on the stream)."""
    forget_text = format_instant(forget_at)
    write.sets += [
        "#forget_at = if_not_exists(#forget_at, :forget_at)",
        "#expires_at = if_not_exists(#expires_at, :expires_at)",
    ]
    write.values[":forget_at"] = text(forget_text)
    write.values[":expires_at"] = encode(items.time_to_live(forget_text))


def _listed(item: Mapping[str, Any]) -> Listed | None:
    """A row of the index; None for one that cannot be read, which must not hide the others."""
    try:
        return items.listed_of_item(item)
    except LedgerTrouble:
        key = {name: item.get(name, {}).get("S") for name in ("pk", "sk")}
        logger.exception(
            "a listed item cannot be read", extra={"message_id": key["pk"], "delivery": key["sk"]}
        )
        return None
