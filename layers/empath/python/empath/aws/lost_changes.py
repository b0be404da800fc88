"""Lost changes: the failure destination of the journal's event source mapping, and the table's stream.

A message there holds no changes, only where they were: stream, shard, first and last sequence number. They
are read from the stream again and handed to the journal's function in the shape that Lambda gives them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from empath.aws.errors import code_of, trouble
from empath.domain.errors import JournalTrouble, QueueTrouble
from empath.ports.lost_changes import LostChanges

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

WAIT = 1
"""Seconds that the queue may take to look at all of its servers."""

MAX_PAYLOAD = 5_000_000
"""Octets of one invocation; Lambda takes 6 MB."""

MAX_EMPTY_PAGES = 100
"""A page of a stream may be empty although more follows."""

FOLLOWED = frozenset({"INSERT", "MODIFY"})
"""The changes that the mapping's filter lets through."""

_GONE = frozenset({"TrimmedDataAccessException", "ResourceNotFoundException"})


@dataclass(frozen=True, slots=True)
class _Place:
    stream: str
    shard: str
    first: str
    last: str


class AwsLostChanges:
    """`streams` and `functions` are clients of DynamoDB Streams and of Lambda."""

    def __init__(self, sqs: SQSClient, url: str, streams: Any, functions: Any, journal: str) -> None:
        self._sqs = sqs
        self._url = url
        self._streams = streams
        self._functions = functions
        self._journal = journal
        self._places: dict[str, _Place] = {}

    async def receive(self) -> Sequence[LostChanges]:
        with trouble(QueueTrouble, "reading what the journal gave up on"):
            answer = await self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=WAIT
            )
        return [self._read(message) for message in answer.get("Messages", ())]

    async def replay(self, lost: LostChanges) -> bool:
        place = self._places.get(lost.name)
        if place is None:
            return False
        # All of them are read before the first is given: half of them in the wrong half would be worse.
        records = await self._records(place)
        if records is None:
            return False
        for event in _events(records, place):
            await self._invoke(event)
        return True

    async def forget(self, lost: LostChanges) -> None:
        with trouble(QueueTrouble, "deleting what the journal gave up on"):
            await self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=lost.receipt)

    def _read(self, message: Mapping[str, Any]) -> LostChanges:
        name, receipt = message["MessageId"], message["ReceiptHandle"]
        try:
            batch = json.loads(message["Body"])["DDBStreamBatchInfo"]
            place = _Place(
                batch["streamArn"], batch["shardId"], batch["startSequenceNumber"], batch["endSequenceNumber"]
            )
            int(place.last)
            count = int(batch.get("batchSize", 1))
            since = _instant(batch.get("approximateArrivalOfFirstRecord"))
        except (KeyError, TypeError, ValueError) as error:
            fault = f"not a place in a stream: {type(error).__name__}: {error}"
            return LostChanges(name, receipt, fault, 0, None, is_readable=False)
        self._places[name] = place
        return LostChanges(name, receipt, f"{place.shard} from {place.first}", count, since)

    async def _records(self, place: _Place) -> list[Mapping[str, Any]] | None:
        """The changes of a place; None when the stream has not all of them any more."""
        records: list[Mapping[str, Any]] = []
        empty = 0
        with trouble(JournalTrouble, f"reading {place.shard} again"):
            try:
                answer = await self._streams.get_shard_iterator(
                    StreamArn=place.stream,
                    ShardId=place.shard,
                    ShardIteratorType="AT_SEQUENCE_NUMBER",
                    SequenceNumber=place.first,
                )
                iterator = answer["ShardIterator"]
                while iterator and empty < MAX_EMPTY_PAGES:
                    page = await self._streams.get_records(ShardIterator=iterator)
                    empty = 0 if page["Records"] else empty + 1
                    for record in page["Records"]:
                        if int(record["dynamodb"]["SequenceNumber"]) > int(place.last):
                            return records
                        records.append(record)
                    if records and int(records[-1]["dynamodb"]["SequenceNumber"]) == int(place.last):
                        return records
                    iterator = page.get("NextShardIterator")
            except ClientError as error:
                if code_of(error) in _GONE:
                    return None
                raise
        return None

    async def _invoke(self, event: bytes) -> None:
        with trouble(JournalTrouble, "invoking the journal"):
            answer = await self._functions.invoke(FunctionName=self._journal, Payload=event)
            said = await answer["Payload"].read()
        if answer.get("FunctionError"):
            raise JournalTrouble(f"the journal failed again: {said.decode(errors='replace')[:500]}")


def _events(records: Sequence[Mapping[str, Any]], place: _Place) -> Iterator[bytes]:
    """Events of Lambda with all records, as few as fit."""
    part: list[str] = []
    octets = 0
    for record in records:
        if record.get("eventName") not in FOLLOWED:
            continue
        text = json.dumps({**record, "eventSourceARN": place.stream}, default=_plain)
        if part and octets + len(text) > MAX_PAYLOAD:
            yield _event(part)
            part, octets = [], 0
        part.append(text)
        octets += len(text)
    if part:
        yield _event(part)


def _event(records: Sequence[str]) -> bytes:
    return f'{{"Records":[{",".join(records)}]}}'.encode()


def _plain(value: object) -> object:
    """What the SDK made of JSON, as the JSON that Lambda hands in."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"a change holds a {type(value).__name__}")


def _instant(text: object) -> datetime | None:
    instant = datetime.fromisoformat(text) if isinstance(text, str) else None
    return instant if instant is None or instant.tzinfo is not None else None
