"""The AWS requests of a message, every stage's and the journal's, and what they cost at list prices.

    .venv/bin/python -m benchmarks.aws_calls

The real stages and adapters against an embedded AWS that is started for it, every request counted where it
leaves the client. Each stage is a process of its own: resolve and deliver share no memory of policies or DNS.
Queues are read as Lambda's event source mappings do it, ten jobs at a time, deleted in one request; the
ledger's stream in batches of 500, what the journal writes itself included. DynamoDB's units are worked out
from the items. A request that polls an empty queue is not counted, it belongs to the fixed costs; Lambda
reads streams for nothing. Exit code 1 where the requests of a million messages cost more than the budget has.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from benchmarks.aws_prices import LAMBDA_REQUEST, READ_UNIT, REQUESTS, WRITE_UNIT
from benchmarks.aws_requests import CREDENTIALS, Requests
from benchmarks.embedded import aws_at
from empath.aws.audit import S3Audit
from empath.aws.control import DynamoControl
from empath.aws.dns_cache import DynamoDnsCache
from empath.aws.events import BridgeEvents
from empath.aws.gates import DynamoGates
from empath.aws.group_commit import GroupCommit
from empath.aws.ledger import DynamoLedger
from empath.aws.queue import SqsJobQueue, received_job
from empath.aws.quick_put import QuickPut
from empath.aws.session import AwsSession
from empath.aws.spool import S3Spool
from empath.aws.suppressions import DynamoSuppressions
from empath.aws.trials import DynamoTrials
from empath.domain.address import parse_mailbox
from empath.domain.envelope import Envelope, Recipient, Source
from empath.domain.lifecycle import DEFAULT_TYPES
from empath.domain.redaction import NOTHING_LEFT_OUT
from empath.door import stream_changes
from empath.net.resolver import DnsResolver
from empath.pipeline.accept import Acceptance
from empath.pipeline.audit_check import check
from empath.pipeline.batch import work_through
from empath.pipeline.chronicle import Chronicle
from empath.pipeline.deliver import Delivery, Invocation
from empath.pipeline.gates import Gatekeeper
from empath.pipeline.jobs import AcceptedJob, DeliveryJob, decode
from empath.pipeline.resolve import Resolution
from empath.pipeline.slow_sites import SlowSites
from empath.ports import QueueName, ReceivedJob
from empath.system import SystemClock, UlidSource
from empath.testing.dns_server import serving
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.memory_routes import memory_routes
from empath.testing.metrics import CountedMetrics
from empath.testing.relay import INTERNET

QUEUE_BATCH = 10
STREAM_BATCH = 500
CONTENT = b"Subject: counted\r\n\r\n" + b"x" * 4980 + b"\r\n"

SESSIONS = 20
"""SMTP sessions that hand in messages at the same time."""

BUDGET = 10.0
"""USD for the requests of a million messages."""


class Counted:
    """A relay whose AWS requests are counted by service and operation, and by stage."""

    def __init__(self, session: AwsSession, nameserver: str) -> None:
        self._session = session
        self._nameserver = nameserver
        self.requests = Requests()
        self.requests.counting = False
        self.invocations = 0
        self.units: Counter[str] = Counter()
        self._iterators: dict[str, str] = {}

    async def open(self) -> None:
        session = self._session
        self._s3, self._dynamodb = await session.s3(), await session.dynamodb()
        self.sqs: Any = await session.sqs()
        bridge = await session.events()
        streams = await session._client("dynamodbstreams", 10.0)
        self._streams: Any = streams
        clients: tuple[Any, ...] = (self._s3, self.sqs, self._dynamodb, bridge)
        for client in clients:
            self.requests.watch(client)
        for bucket in ("spool", "audit"):
            await self._s3.create_bucket(Bucket=bucket)
        await bridge.create_event_bus(Name="bus")
        self.urls = {name: (await self.sqs.create_queue(QueueName=name))["QueueUrl"] for name in QueueName}
        tables: Any = self._dynamodb
        for table, keys in (("deliveries", ("pk", "sk")), ("control", ("pk",))):
            await tables.create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                KeySchema=[
                    {"AttributeName": key, "KeyType": kind}
                    for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
                ],
                # Of both, so that the units of every write can be worked out; the control table has none.
                StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
            )
        await DynamoControl(
            self._dynamodb, "control", clock=SystemClock(), metrics=CountedMetrics()
        ).set_policy("*", {"allow_addresses": ["127.0.0.0/8"]})
        await self._stream_of("control")
        ingress = self._process()
        ingress.queue = GroupCommit(self.sqs, self.urls, on_the_way=lambda: ingress.spool.completing)
        self.acceptance = Acceptance.over(ingress)
        resolve = self._process()
        self._in_hand = 0
        together = GroupCommit(self.sqs, self.urls, on_the_way=lambda: self._in_hand - together.senders)
        resolve.queue = together
        self.resolution = Resolution.over(resolve)
        self.delivery = Delivery.over(self._process())
        self.chronicle = Chronicle.over(self._process(bridge))
        self.requests.counting = True

    def _process(self, bridge: Any = None) -> SimpleNamespace:
        """The ports of a process that was just started."""
        metrics, clock, ids = CountedMetrics(), SystemClock(), UlidSource()
        cache = DynamoDnsCache(self._dynamodb, "control", clock=clock)
        resolver = DnsResolver([self._nameserver], cache=cache)
        return SimpleNamespace(
            spool=S3Spool(self._s3, "spool", QuickPut(self._s3, "spool")),
            queue=SqsJobQueue(self.sqs, self.urls),
            ledger=DynamoLedger(self._dynamodb, "deliveries"),
            control=DynamoControl(self._dynamodb, "control", clock=clock, metrics=metrics),
            gatekeeper=Gatekeeper(DynamoGates(self._dynamodb, "control", clock=clock), clock, ids, metrics),
            slow_sites=SlowSites(DynamoTrials(self._dynamodb, "control"), clock, metrics),
            suppressions=DynamoSuppressions(self._dynamodb, "control"),
            audit=S3Audit(self._s3, "audit", self._dynamodb, "control"),
            events=BridgeEvents(bridge, "bus"),
            event_types=DEFAULT_TYPES,
            redaction=NOTHING_LEFT_OUT,
            resolver=resolver,
            routes=memory_routes(
                resolver=resolver, dialer=ScriptedDialer(), clock=clock, ids=ids, hostname="relay.test"
            ),
            clock=clock,
            ids=ids,
            metrics=metrics,
            hostname="relay.test",
        )

    async def accept(self, number: int, domain: str, recipients: int) -> None:
        async def content() -> AsyncIterator[bytes]:
            yield CONTENT

        ids = UlidSource()
        await self.acceptance.accept(
            message_id=ids.new_id(),
            received_at=SystemClock().now(),
            envelope=Envelope(
                reverse_path=parse_mailbox("ann@a.test"),
                recipients=tuple(
                    Recipient(mailbox=parse_mailbox(f"u{number}-{one}@{domain}")) for one in range(recipients)
                ),
            ),
            source=Source(client="127.0.0.1", helo="client.test"),
            content=content(),
        )

    async def drain(self, name: QueueName) -> None:
        """Work off a queue, a batch at a time."""
        while True:
            self.requests.counting = False
            answer = await self.sqs.receive_message(
                QueueUrl=self.urls[name], MaxNumberOfMessages=QUEUE_BATCH, MessageSystemAttributeNames=["All"]
            )
            self.requests.counting = True
            jobs = [received_job(message) for message in answer.get("Messages", ())]
            if not jobs:
                return
            self.requests.calls["sqs ReceiveMessage"] += 1
            self.invocations += 1
            self._in_hand = len(jobs)
            failed = await work_through(
                jobs, self._work_of(name), queue=SqsJobQueue(self.sqs, self.urls), name=name
            )
            if failed:
                raise SystemExit(f"{len(failed)} jobs of {name} failed")
            entries = [{"Id": str(n), "ReceiptHandle": job.receipt} for n, job in enumerate(jobs)]
            await self.sqs.delete_message_batch(QueueUrl=self.urls[name], Entries=entries)

    def _work_of(self, name: QueueName) -> Any:
        async def resolve(job: ReceivedJob) -> bool:
            try:
                await self.resolution.resolve(decode(AcceptedJob, job.body))
            finally:
                self._in_hand -= 1
            return True

        async def deliver(job: ReceivedJob) -> bool:
            return await self.delivery.deliver(
                decode(DeliveryJob, job.body),
                queue=name,
                received=job,
                invocation=Invocation.begun(lambda: 60.0),
            )

        return resolve if name is QueueName.ACCEPTED else deliver

    async def follow(self) -> None:
        """Give the journal the ledger's stream, until nothing is left in it."""
        while records := await self._stream_of("deliveries"):
            self._weigh("deliveries", records)
            changes = [record for record in records if record["eventName"] in ("INSERT", "MODIFY")]
            for start in range(0, len(changes), STREAM_BATCH):
                self.invocations += 1
                await self.chronicle.take(stream_changes({"Records": changes[start : start + STREAM_BATCH]}))
        self._weigh("control", await self._stream_of("control"))
        self.requests.counting = False
        findings = await check(S3Audit(self._s3, "audit", self._dynamodb, "control"))
        if not findings.is_sound or not findings.lines:
            raise SystemExit(f"the audit trail is not what was written: {findings}")

    def _weigh(self, table: str, records: list[Any]) -> None:
        for record in records:
            images = (record["dynamodb"].get(name, {}) for name in ("OldImage", "NewImage"))
            self.units[table] += math.ceil(max(map(_octets, images)) / 1024)

    async def _stream_of(self, table: str) -> list[Any]:
        """What the table's stream has that was not read before."""
        counting, self.requests.counting = self.requests.counting, False
        if table not in self._iterators:
            arn = (await self._dynamodb.describe_table(TableName=table))["Table"]["LatestStreamArn"]
            (shard,) = (await self._streams.describe_stream(StreamArn=arn))["StreamDescription"]["Shards"]
            answer = await self._streams.get_shard_iterator(
                StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )
            self._iterators[table] = answer["ShardIterator"]
        answer = await self._streams.get_records(ShardIterator=self._iterators[table])
        self._iterators[table] = answer["NextShardIterator"]
        self.requests.counting = counting
        records: list[Any] = answer["Records"]
        for record in records:
            change = record["dynamodb"]
            change["ApproximateCreationDateTime"] = change["ApproximateCreationDateTime"].timestamp()
        return records


def _octets(image: Mapping[str, Any]) -> int:
    """The size of an item as DynamoDB counts it."""
    return sum(len(name.encode()) + _octets_of(value) for name, value in image.items())


def _octets_of(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return len(content) // 2 + 2
        case "SS":
            return sum(len(text.encode()) for text in content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _octets_of(part) for name, part in content.items())
        case "L":
            return 3 + sum(1 + _octets_of(part) for part in content)
        case _:
            return 1


@dataclass(frozen=True, slots=True)
class Line:
    what: str
    number: float
    """Of a message."""
    price: float
    """USD for a million of them."""

    @property
    def cost(self) -> float:
        """USD for a million messages."""
        return self.number * self.price


def bill(relay: Counted, messages: int) -> list[Line]:
    """Every kind of request and unit; what has a price by units has none by requests."""
    calls = relay.requests.calls
    lines = [
        Line(what, number / messages, REQUESTS.get(what, 0.0))
        for what, number in sorted(calls.items())
        if not what.startswith("dynamodb ") or number
    ]
    unknown = [line.what for line in lines if line.what not in REQUESTS and "dynamodb" not in line.what]
    if unknown:
        raise SystemExit(f"nobody has said what these cost: {', '.join(unknown)}")
    # The ledger's reads are consistent, but for batches, which only ever look for hints.
    reads = calls["dynamodb GetItem"] + calls["dynamodb BatchGetItem"] / 2
    return [
        *lines,
        Line("units: writes, ledger", relay.units["deliveries"] / messages, WRITE_UNIT),
        Line("units: writes, control", relay.units["control"] / messages, WRITE_UNIT),
        Line("units: reads", reads / messages, READ_UNIT),
        Line("invocations", relay.invocations / messages, LAMBDA_REQUEST),
    ]


async def count(endpoint: str | None, messages: int, recipients: int, domains: int) -> list[Line]:
    async with (
        serving(INTERNET, ttl=600) as dns,
        aws_at(endpoint) as url,
        AwsSession(endpoint_url=url, **CREDENTIALS) as session,
    ):
        relay = Counted(session, dns.nameserver)
        await relay.open()
        sessions = asyncio.Semaphore(SESSIONS)

        async def session_of(number: int) -> None:
            async with sessions:
                await relay.accept(number, f"d{number % domains}.test", recipients)

        await asyncio.gather(*map(session_of, range(messages)))
        await relay.drain(QueueName.ACCEPTED)
        await relay.drain(QueueName.DELIVERY)
        await relay.follow()
        return bill(relay, messages)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aws_calls")
    parser.add_argument("--count", type=int, default=200, help="messages (default 200)")
    parser.add_argument("--recipients", type=int, default=1, help="of each, in one domain (default 1)")
    parser.add_argument("--domains", type=int, default=20, help="that the messages go to (default 20)")
    parser.add_argument("--endpoint", help="an AWS emulator that runs already, and has nothing in it")
    given = parser.parse_args()
    if given.count < 1 or not 1 <= given.recipients <= 1000 or given.domains < 1:
        parser.error("--count and --domains must be 1 or more, --recipients 1 to 1000")
    domains = min(given.domains, given.count)
    lines = asyncio.run(count(given.endpoint, given.count, given.recipients, domains))
    total = sum(line.cost for line in lines)
    words = [
        f"{given.count} messages, {given.recipients} recipient(s) each, {domains} domains",
        "",
        f"{'':28} {'a message':>10} {'$ a million':>12}",
        *(f"{line.what:28} {line.number:10.3f} {line.cost:12.2f}" for line in lines),
        f"{'in all':28} {'':10} {total:12.2f}",
    ]
    sys.stdout.write("\n".join(words) + "\n")
    return 0 if total <= BUDGET or given.recipients > 1 else 1


if __name__ == "__main__":
    sys.exit(main())
