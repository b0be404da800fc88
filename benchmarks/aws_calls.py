"""The AWS requests of a message: the real stages and adapters against moto, every request counted.

    .venv/bin/python -m benchmarks.aws_calls

Queues are read here as Lambda's event source mappings do it: in batches of ten, deleted in one request. A
request that polls an empty queue is not counted; it belongs to the fixed costs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from moto.server import ThreadedMotoServer

from benchmarks.aws_requests import CREDENTIALS, Requests
from empath.aws.control import DynamoControl
from empath.aws.gates import DynamoGates
from empath.aws.ledger import DynamoLedger
from empath.aws.queue import SqsJobQueue, received_job
from empath.aws.quick_put import QuickPut
from empath.aws.session import AwsSession
from empath.aws.spool import S3Spool
from empath.domain.address import parse_mailbox
from empath.domain.envelope import Envelope, Recipient, Source
from empath.pipeline.accept import Acceptance
from empath.pipeline.batch import work_through
from empath.pipeline.deliver import Delivery, Invocation
from empath.pipeline.gates import Gatekeeper
from empath.pipeline.jobs import AcceptedJob, DeliveryJob, decode
from empath.pipeline.journal import Journal
from empath.pipeline.resolve import Resolution
from empath.ports import QueueName, ReceivedJob
from empath.system import SystemClock, UlidSource
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.memory_routes import memory_routes
from empath.testing.metrics import CountedMetrics
from empath.testing.relay import INTERNET

BATCH = 10
CONTENT = b"Subject: counted\r\n\r\n" + b"x" * 4980 + b"\r\n"


class Counted:
    """A relay whose AWS requests are counted by service and operation."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self.requests = Requests()
        self.requests.counting = False

    async def open(self) -> None:
        s3, sqs, dynamodb = (
            await self._session.s3(),
            await self._session.sqs(),
            await self._session.dynamodb(),
        )
        self.sqs: Any = sqs
        clients: tuple[Any, ...] = (s3, sqs, dynamodb)
        for client in clients:
            self.requests.watch(client)
        await s3.create_bucket(Bucket="spool")
        self.urls = {name: (await sqs.create_queue(QueueName=name))["QueueUrl"] for name in QueueName}
        for table, keys in (("deliveries", ("pk", "sk")), ("control", ("pk",))):
            tables: Any = dynamodb
            await tables.create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                KeySchema=[
                    {"AttributeName": key, "KeyType": kind}
                    for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
                ],
            )
        metrics, clock, ids = CountedMetrics(), SystemClock(), UlidSource()
        resolver = ZoneResolver(INTERNET)
        self.control = DynamoControl(dynamodb, "control", clock=clock, metrics=metrics)
        await self.control.set_policy("*", {"allow_addresses": ["127.0.0.0/8"]})
        self.ports = SimpleNamespace(
            spool=S3Spool(s3, "spool", QuickPut(s3, "spool")),
            queue=SqsJobQueue(sqs, self.urls),
            ledger=DynamoLedger(dynamodb, "deliveries"),
            control=self.control,
            gatekeeper=Gatekeeper(DynamoGates(dynamodb, "control", clock=clock), clock, ids, metrics),
            resolver=resolver,
            routes=memory_routes(
                resolver=resolver, dialer=ScriptedDialer(), clock=clock, ids=ids, hostname="relay.test"
            ),
            clock=clock,
            ids=ids,
            metrics=metrics,
            hostname="relay.test",
        )
        self.requests.counting = True

    async def accept(self, number: int, recipients: int) -> str:
        async def content() -> AsyncIterator[bytes]:
            yield CONTENT

        message_id = self.ports.ids.new_id()
        await Acceptance.over(self.ports).accept(
            message_id=message_id,
            received_at=self.ports.clock.now(),
            envelope=Envelope(
                reverse_path=parse_mailbox("ann@a.test"),
                recipients=tuple(
                    Recipient(mailbox=parse_mailbox(f"u{number}-{one}@good.test"))
                    for one in range(recipients)
                ),
            ),
            source=Source(client="127.0.0.1", helo="client.test"),
            content=content(),
        )
        return str(message_id)

    async def drain(self, name: QueueName) -> None:
        """Work off a queue, a batch at a time."""
        while True:
            self.requests.counting = False
            answer = await self.sqs.receive_message(
                QueueUrl=self.urls[name], MaxNumberOfMessages=BATCH, MessageSystemAttributeNames=["All"]
            )
            self.requests.counting = True
            jobs = [received_job(message) for message in answer.get("Messages", ())]
            if not jobs:
                return
            self.requests.calls["sqs ReceiveMessage"] += 1
            failed = await work_through(jobs, self._work_of(name), queue=self.ports.queue, name=name)
            if failed:
                raise SystemExit(f"{len(failed)} jobs of {name} failed")
            entries = [{"Id": str(n), "ReceiptHandle": job.receipt} for n, job in enumerate(jobs)]
            await self.sqs.delete_message_batch(QueueUrl=self.urls[name], Entries=entries)

    def _work_of(self, name: QueueName) -> Any:
        async def resolve(job: ReceivedJob) -> bool:
            await Resolution.over(self.ports).resolve(decode(AcceptedJob, job.body))
            return True

        async def deliver(job: ReceivedJob) -> bool:
            return await Delivery.over(self.ports).deliver(
                decode(DeliveryJob, job.body),
                queue=name,
                received=job,
                invocation=Invocation.begun(lambda: 60.0),
            )

        return resolve if name is QueueName.ACCEPTED else deliver

    async def settle(self, message_ids: list[str]) -> None:
        """What the journal does with the stream's records of these messages' outcomes."""
        journal = Journal.over(self.ports)
        for message_id in message_ids:
            self.requests.counting = False
            records = await self.ports.ledger.deliveries(message_id)
            self.requests.counting = True
            await journal.note_all([(None, record) for record in records])


async def count(endpoint: str, messages: int, recipients: int) -> Counter[str]:
    async with AwsSession(endpoint_url=endpoint, **CREDENTIALS) as session:
        relay = Counted(session)
        await relay.open()
        message_ids = [await relay.accept(number, recipients) for number in range(messages)]
        await relay.drain(QueueName.ACCEPTED)
        await relay.drain(QueueName.DELIVERY)
        await relay.settle(message_ids)
        return relay.requests.calls


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aws_calls")
    parser.add_argument("--count", type=int, default=100, help="messages (default 100)")
    parser.add_argument("--recipients", type=int, default=1, help="of each, in one domain (default 1)")
    given = parser.parse_args()
    if given.count < 1 or not 1 <= given.recipients <= 1000:
        parser.error("--count must be 1 or more, --recipients 1 to 1000")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        calls = asyncio.run(count(f"http://{host}:{port}", given.count, given.recipients))
    finally:
        server.stop()
    lines = [f"{given.count} messages, {given.recipients} recipient(s) each; requests a message", ""]
    lines += [f"{name:28} {number / given.count:6.2f}" for name, number in sorted(calls.items())]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
