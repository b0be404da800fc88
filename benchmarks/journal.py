"""The journal in one worker: stream records a second, and AWS requests a record.

    .venv/bin/python -m benchmarks.journal [--records 6000] [--latency 0] [--endpoint URL]

The function's own handler, in a process of its own, on events of 500 records as Lambda gives them
(`benchmarks.journal_mail` makes them): settling, audit trail, events, suppression. AWS is an embedded AWS
that is started for it, or `--endpoint`; it shares the machine's cores with the worker, so the wall time is
both. `--latency` adds the time that AWS is away to each request. The trail is checked afterwards, and that no
raw object is left. Exit code 1 below the goal of 300 records a second, wall time.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.aws_requests import CREDENTIALS, Requests
from benchmarks.embedded import aws_at
from benchmarks.journal_mail import BATCH, CONTENT, Stream, stream_of
from empath.aws.audit import S3Audit
from empath.aws.items import item_of_message
from empath.aws.session import AwsSession
from empath.domain.lifecycle import DEFAULT_TYPES
from empath.domain.records import MessageRecord
from empath.pipeline.audit_check import check

GOAL = 300
AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Run:
    """What the worker measured."""

    wall: float
    cpu: float
    calls: Counter[str]


class World:
    """The tables, buckets and the bus that the journal works with."""

    def __init__(self, session: AwsSession, endpoint: str) -> None:
        self._session = session
        self._suffix = f"{time.time_ns():x}"
        self._endpoint = endpoint

    def name(self, of: str) -> str:
        return f"{of}-{self._suffix}"

    @property
    def environment(self) -> dict[str, str]:
        """Of the function."""
        return {
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_ACCESS_KEY_ID": CREDENTIALS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS["aws_secret_access_key"],
            "AWS_REGION": CREDENTIALS["region_name"],
            "EMPATH_FUNCTION": "journal",
            "EMPATH_HOSTNAME": "relay.test",
            "EMPATH_SPOOL_BUCKET": self.name("spool"),
            "EMPATH_AUDIT_BUCKET": self.name("audit"),
            "EMPATH_DELIVERIES_TABLE": self.name("deliveries"),
            "EMPATH_CONTROL_TABLE": self.name("control"),
            "EMPATH_EVENT_BUS": self.name("bus"),
            "EMPATH_EVENT_TYPES": ",".join(DEFAULT_TYPES),
            "EMPATH_SUPPRESSION": "on",
            "POWERTOOLS_SERVICE_NAME": "empath",
            "POWERTOOLS_METRICS_NAMESPACE": "Empath",
        }

    async def make(self) -> None:
        s3, dynamodb, bridge = await self._clients()
        for bucket in ("spool", "audit"):
            await s3.create_bucket(Bucket=self.name(bucket))
        await bridge.create_event_bus(Name=self.name("bus"))
        for table, keys in (("deliveries", ("pk", "sk")), ("control", ("pk",))):
            await dynamodb.create_table(
                TableName=self.name(table),
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                KeySchema=[
                    {"AttributeName": key, "KeyType": kind}
                    for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
                ],
            )

    async def fill(self, messages: Iterable[MessageRecord]) -> None:
        """Every message as it was taken in, with its raw object."""
        s3, dynamodb, _ = await self._clients()

        async def one(message: MessageRecord) -> None:
            await dynamodb.put_item(TableName=self.name("deliveries"), Item=item_of_message(message))
            await s3.put_object(Bucket=self.name("spool"), Key=message.spool_key, Body=CONTENT)

        await _each(messages, one)

    async def check(self, stream: Stream) -> int:
        """The lines of the trail, once it is what was written and all else has its end."""
        s3, dynamodb, _ = await self._clients()
        findings = await check(S3Audit(s3, self.name("audit"), dynamodb, self.name("control")))
        if not findings.is_sound:
            raise SystemExit(f"the trail is not what was written: {findings.faults}")
        left = (await s3.list_objects_v2(Bucket=self.name("spool"))).get("KeyCount", 0)
        if left:
            raise SystemExit(f"{left} raw objects are left")
        if stream.kinds["failed"] and not await self._suppressed():
            raise SystemExit("no address was suppressed")
        return findings.lines

    async def _suppressed(self) -> int:
        _, dynamodb, _ = await self._clients()
        found = await dynamodb.scan(
            TableName=self.name("control"),
            FilterExpression="begins_with(pk, :prefix)",
            ExpressionAttributeValues={":prefix": {"S": "suppress#"}},
        )
        return int(found["Count"])

    async def _clients(self) -> tuple[Any, Any, Any]:
        session = self._session
        return await session.s3(), await session.dynamodb(), await session.events()


async def _each(work: Iterable[Any], do: Callable[[Any], Awaitable[None]]) -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(item: Any) -> None:
        async with limit:
            await do(item)

    await asyncio.gather(*map(one, work))


def work_off(environment: Mapping[str, str], events: list[str], latency: float) -> Run:
    """What a Lambda process does with these events, one after the other; in a process of its own."""
    os.environ.update(environment)
    # Its lines about settled messages would be the benchmark's output.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    handler = importlib.import_module("functions.journal.handler")
    # Lambda parses an event before it calls the handler; the first one opens the clients.
    first, *parsed = [json.loads(event) for event in events]
    handler.handler({**first, "Records": first["Records"][:1]}, None)
    requests = Requests(latency)
    for client in handler.runtime.ports._session._open.values():
        requests.watch(client)
    wall, cpu = time.perf_counter(), time.process_time()
    for event in (first, *parsed):
        handler.handler(event, None)
    return Run(time.perf_counter() - wall, time.process_time() - cpu, requests.calls)


async def measure(endpoint: str, records: int, latency: float) -> tuple[Stream, Run, int]:
    stream = await stream_of(records)
    async with AwsSession(endpoint_url=endpoint, **CREDENTIALS) as session:
        world = World(session, endpoint)
        await world.make()
        await world.fill(stream.messages)
        events = [json.dumps(event) for event in stream.events()]
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            run = await asyncio.to_thread(pool.apply, work_off, (world.environment, events, latency))
        return stream, run, await world.check(stream)


async def measured(endpoint: str | None, records: int, latency: float) -> tuple[Stream, Run, int]:
    async with aws_at(endpoint) as url:
        return await measure(url, records, latency)


def _pace(seconds: float, records: int) -> str:
    return f"{records / seconds:8.0f} records/s  {seconds / records * 1e3:.3f} ms a record"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.journal")
    parser.add_argument("--records", type=int, default=6000, help="of the stream, about (default 6000)")
    parser.add_argument("--endpoint", help="an AWS emulator that runs already")
    parser.add_argument("--latency", type=float, default=0, help="ms added to each request (default 0)")
    given = parser.parse_args()
    if given.records < BATCH or given.latency < 0:
        parser.error(f"--records must be {BATCH} or more, --latency 0 or more")
    stream, run, lines = asyncio.run(measured(given.endpoint, given.records, given.latency / 1000))
    records = len(stream.changes)
    report = [
        f"{records} records in batches of {BATCH}; {lines} audit lines",
        f"wall, with its AWS  {_pace(run.wall, records)}",
        f"CPU of the worker   {_pace(run.cpu, records)}",
        "requests a record:",
        *(f"  {name:28} {n / records:7.4f}" for name, n in sorted(run.calls.items())),
        f"  {'in all':28} {run.calls.total() / records:7.4f}",
        "records:",
        *(f"  {kind:28} {n / records:7.1%}" for kind, n in sorted(stream.kinds.items())),
    ]
    sys.stdout.write("\n".join(report) + "\n")
    return 0 if records / run.wall >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
