"""What the stream of a ledger carries when mail of every kind goes through, in events as Lambda gives them.

The changes are those that the real stages make, over ports in memory: messages taken in, claims, outcomes,
deferrals and their jobs, reports and their own messages, and the journal's own writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from empath.aws.items import item_of_delivery, item_of_message
from empath.domain.delivery_state import State
from empath.domain.outcome import Deferred, Failed
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.domain.reply import Reply
from empath.testing.relay import MemoryRelay

BATCH = 500
"""Records of an event at most, as infra.constructs.worker asks for them."""

CONTENT = b"Subject: counted\r\n\r\n" + b"x" * 4980 + b"\r\n"

KINDS = ("sent",) * 14 + ("deferred",) * 2 + ("unknown",) * 2 + ("two destinations",) * 2
"""Of every twenty messages: sent at the first attempt; deferred once; for somebody whom the next hop does not
know, so that a report goes back and the address is suppressed; sent to two destinations."""

Record = MessageRecord | DeliveryRecord
Change = tuple[Record | None, Record | None]


@dataclass(frozen=True, slots=True)
class Stream:
    changes: Sequence[Change]

    @property
    def messages(self) -> list[MessageRecord]:
        """Every message as it was when it was taken in."""
        return [new for old, new in self.changes if old is None and isinstance(new, MessageRecord)]

    @property
    def kinds(self) -> Mapping[str, int]:
        return Counter(map(_kind, self.changes))

    def events(self) -> Iterator[dict[str, Any]]:
        now = int(datetime.now(UTC).timestamp())
        for start in range(0, len(self.changes), BATCH):
            part = self.changes[start : start + BATCH]
            yield {"Records": [_record(place, change, now) for place, change in enumerate(part, start)]}


async def stream_of(records: int) -> Stream:
    """A stream of about so many records, all of each message in it."""
    relay = MemoryRelay()
    dialer: Any = relay.dialer
    changes: list[Change] = []
    take = relay.ledger.take_stream_records

    def both() -> list[Change]:
        taken = take()
        changes.extend(taken)
        return taken

    relay.ledger.take_stream_records = both  # type: ignore[method-assign]
    number = 0
    while len(changes) < records:
        # Twenty at a time come in together, so that the records of messages are mixed as they are in life.
        for kind in KINDS:
            number += 1
            recipients = [f"user{number}@{kind.replace(' ', '-')}{number}.test"]
            if kind == "deferred":
                later = Deferred(Reply.heard(451, "4.7.1 try again later"))
                dialer.host(f"deferred{number}.test").outcomes[recipients[0]] = [later]
            elif kind == "unknown":
                unknown = Failed(Reply.heard(550, f"5.1.1 <{recipients[0]}>: no such user here"))
                dialer.host(f"unknown{number}.test").outcome = unknown
            elif kind == "two destinations":
                recipients.append(f"user{number}@other{number}.test")
            await relay.submit("ann@example.org", recipients, CONTENT)
        await relay.run()
        await relay.follow_stream()
    return Stream(changes)


def _record(place: int, change: Change, now: int) -> dict[str, Any]:
    old, new = (_image(record) for record in change)
    images = {name: image for name, image in (("OldImage", old), ("NewImage", new)) if image is not None}
    return {
        "eventID": f"{place:032x}",
        "eventName": "MODIFY" if old else "INSERT",
        "eventSource": "aws:dynamodb",
        "dynamodb": {
            "ApproximateCreationDateTime": now,
            "SequenceNumber": f"{place:021d}",
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            **images,
        },
    }


def _image(record: Record | None) -> Any:
    if record is None:
        return None
    return item_of_message(record) if isinstance(record, MessageRecord) else item_of_delivery(record)


def _kind(change: Change) -> str:
    old, new = change
    if not isinstance(new, DeliveryRecord):
        return "message taken in" if old is None else "message settled"
    before = old if isinstance(old, DeliveryRecord) else None
    if before is None:
        return "delivery made"
    if new.lease is not None:
        return "claim"
    if before.reports != new.reports and before.owes_reports:
        return "report sent"
    if new.attempt > before.attempt:
        return {State.SENT: "sent", State.DEFERRED: "deferred"}.get(new.status, "failed")
    return "job of the next attempt"
