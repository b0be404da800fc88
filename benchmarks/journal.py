"""The journal in one worker: stream records a second, and AWS requests a record.

    .venv/bin/python -m benchmarks.journal [--records 6000] [--endpoint URL]

What the function's door does (`stream_changes`, `Chronicle.take`), in process, on events of 100 records as
Lambda gives them: each message has three (received, claimed, sent or deferred). CPU is this process's alone;
AWS is moto in a process of its own, or `--endpoint`, and most of the wall time is the emulator's. Exit code 1
below the goal of 300 records a second of CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

from moto.server import ThreadedMotoServer

from benchmarks.aws_requests import CREDENTIALS, Requests
from empath.aws.audit import S3Audit
from empath.aws.events import BridgeEvents
from empath.aws.items import item_of_delivery, item_of_message
from empath.aws.ledger import DynamoLedger
from empath.aws.session import AwsSession
from empath.aws.spool import S3Spool
from empath.domain.address import parse_mailbox
from empath.domain.delivery_state import State
from empath.domain.lifecycle import DEFAULT_TYPES
from empath.domain.outcome import Deferred, Sent
from empath.domain.records import Attempt, DeliveryRecord, MessageRecord, RecipientRecord
from empath.domain.reply import Reply
from empath.domain.retry import RetryPolicy
from empath.door import stream_changes
from empath.pipeline.audit_check import check
from empath.pipeline.chronicle import Chronicle
from empath.pipeline.conclude import AttemptResult, conclude
from empath.system import SystemClock, UlidSource

GOAL = 300
BATCH = 100
DEFERRED_EVERY = 20
"""Of the deliveries one in so many is deferred, which an event tells; the others are sent and settled."""


def images(number: int, message_id: str, now: datetime) -> list[tuple[Any, Any]]:
    """The changes of one message as the stream has them, old and new images."""
    address = f"user{number}@example.com"
    message = MessageRecord(
        message_id=message_id,
        reverse_path=parse_mailbox("ann@example.org"),
        spool_key=f"messages/{message_id}",
        size=5000,
        received_at=now,
        deliveries=1,
    )
    new = DeliveryRecord(
        message_id=message_id,
        delivery="delivery#example.com",
        domain="example.com",
        siblings=1,
        received_at=now,
        expires=now + timedelta(days=5),
        recipients={address: RecipientRecord(state=State.QUEUED)},
    )
    claimed = new.model_copy(update={"attempts": (Attempt(attempt=1, started=now, owner=message_id),)})
    deferred = number % DEFERRED_EVERY == 0
    outcome = (
        Deferred(Reply.heard(451, "4.7.1 try again later"))
        if deferred
        else Sent(Reply.heard(250, "2.0.0 Ok"))
    )
    ended = conclude(
        claimed,
        AttemptResult({address: outcome}, "mx.example.com[192.0.2.1]:25", "TLSv1.3"),
        now=now + timedelta(seconds=1),
        policy=RetryPolicy(),
        random=0.5,
        reportable=True,
    ).record
    items = [item_of_delivery(record) for record in (new, claimed, ended)]
    return [(None, item_of_message(message)), (items[0], items[1]), (items[1], items[2])]


def stream(records: int) -> Iterator[dict[str, Any]]:
    """Events of BATCH records, as Lambda hands them over."""
    now, ids = datetime.now(UTC), UlidSource()
    changes = [change for number in range(-(-records // 3)) for change in images(number, ids.new_id(), now)][
        :records
    ]
    for start in range(0, len(changes), BATCH):
        yield {
            "Records": [
                {
                    "eventID": f"{place:032x}",
                    "dynamodb": {
                        "ApproximateCreationDateTime": int(now.timestamp()),
                        "SequenceNumber": f"{place:021d}",
                        **({"OldImage": old} if old else {}),
                        "NewImage": new,
                    },
                }
                for place, (old, new) in enumerate(changes[start : start + BATCH], start)
            ]
        }


async def measure(endpoint: str, records: int) -> tuple[float, float, Requests, int]:
    async with AwsSession(endpoint_url=endpoint, **CREDENTIALS) as session:
        s3, dynamodb, bridge = await session.s3(), await session.dynamodb(), await session.events()
        suffix = f"{time.time_ns():x}"
        await s3.create_bucket(Bucket=f"spool-{suffix}")
        await s3.create_bucket(Bucket=f"audit-{suffix}")
        await bridge.create_event_bus(Name=f"bus-{suffix}")
        tables: Any = dynamodb
        for table, keys in (("deliveries", ("pk", "sk")), ("control", ("pk",))):
            await tables.create_table(
                TableName=f"{table}-{suffix}",
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                KeySchema=[
                    {"AttributeName": key, "KeyType": kind}
                    for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
                ],
            )
        audit = S3Audit(s3, f"audit-{suffix}", dynamodb, f"control-{suffix}")
        chronicle = Chronicle(
            spool=S3Spool(s3, f"spool-{suffix}"),
            ledger=DynamoLedger(dynamodb, f"deliveries-{suffix}"),
            clock=SystemClock(),
            audit=audit,
            events=BridgeEvents(bridge, f"bus-{suffix}"),
            event_types=DEFAULT_TYPES,
        )
        # Parsed anew, as Lambda does it before the handler: not a part of what is measured.
        events = [json.loads(json.dumps(event)) for event in stream(records)]
        for message in {r["dynamodb"]["NewImage"]["pk"]["S"] for event in events for r in event["Records"]}:
            images_of = next(iter(images(0, message, datetime.now(UTC))))[1]
            await tables.put_item(TableName=f"deliveries-{suffix}", Item=images_of)
        requests = Requests()
        for client in (s3, dynamodb, bridge):
            requests.watch(client)
        wall, cpu = time.perf_counter(), time.process_time()
        for event in events:
            await chronicle.take(stream_changes(event))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        requests.counting = False
        findings = await check(audit)
        if not findings.is_sound:
            raise SystemExit(f"the trail is not what was written: {findings.faults}")
        return wall, cpu, requests, findings.lines


@contextmanager
def moto() -> Iterator[str]:
    ours, its = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(its,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    pipe.send(f"http://{host}:{port}")
    while True:
        time.sleep(3600)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.journal")
    parser.add_argument("--records", type=int, default=6000, help="of the stream (default 6000)")
    parser.add_argument("--endpoint", help="an AWS emulator in place of moto")
    given = parser.parse_args()
    if given.records < BATCH:
        parser.error(f"--records must be {BATCH} or more")
    if given.endpoint:
        wall, cpu, requests, lines = asyncio.run(measure(given.endpoint, given.records))
    else:
        with moto() as endpoint:
            wall, cpu, requests, lines = asyncio.run(measure(endpoint, given.records))
    pace = given.records / cpu
    report = [
        f"{given.records} records in batches of {BATCH}; {lines} audit lines",
        f"CPU of the worker   {pace:8.0f} records/s  {cpu / given.records * 1e3:.3f} ms a record",
        f"wall, with its AWS  {given.records / wall:8.0f} records/s",
        "requests a record:",
        *(f"  {name:28} {n / given.records:7.4f}" for name, n in sorted(requests.calls.items())),
        f"  {'in all':28} {sum(requests.calls.values()) / given.records:7.4f}",
    ]
    sys.stdout.write("\n".join(report) + "\n")
    return 0 if pace >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
