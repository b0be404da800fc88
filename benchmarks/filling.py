"""Many messages straight into spool, ledger and queue, by the stages themselves and the AWS adapters.

The quick way to a long queue: what the ingress and the resolve function would take minutes for is done in
this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from benchmarks.stack import Relay, content_of
from empath.aws.ledger import DynamoLedger
from empath.aws.queue import SqsJobQueue
from empath.aws.quick_put import QuickPut
from empath.aws.session import AwsSession
from empath.aws.spool import S3Spool
from empath.domain.address import parse_mailbox
from empath.domain.envelope import Envelope, Recipient, Source
from empath.pipeline.accept import Acceptance
from empath.pipeline.jobs import AcceptedJob, decode
from empath.pipeline.resolve import Resolution
from empath.ports import OutgoingJob, QueueName
from empath.system import SystemClock, UlidSource
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.metrics import CountedMetrics
from empath.testing.zones import Node

AT_ONCE = 20


class _Caught:
    """A queue that keeps what the accept stage sends."""

    def __init__(self) -> None:
        self.jobs: list[OutgoingJob] = []

    async def send(self, queue: QueueName, jobs: list[OutgoingJob]) -> None:
        self.jobs += jobs


class _Gathered:
    """A queue that takes ten jobs at a time."""

    def __init__(self, queue: SqsJobQueue) -> None:
        self._queue = queue
        self._jobs: dict[QueueName, list[OutgoingJob]] = {}

    async def send(self, queue: QueueName, jobs: list[OutgoingJob]) -> None:
        self._jobs.setdefault(queue, []).extend(jobs)

    async def flush(self) -> None:
        for queue, jobs in self._jobs.items():
            for first in range(0, len(jobs), 100):
                await self._queue.send(queue, jobs[first : first + 100])
        self._jobs.clear()


def fill(relay: Relay, domain: str, count: int, *, size: int = 1000) -> list[str]:
    """So many messages for a domain, accepted, resolved and queued; their ids."""
    return asyncio.run(_fill(relay, domain, count, content_of(size)))


async def _fill(relay: Relay, domain: str, count: int, content: bytes) -> list[str]:
    target = relay.target
    async with AwsSession(None, **target.client_arguments) as session, target.dns() as control:
        s3, sqs, dynamodb = await session.s3(), await session.sqs(), await session.dynamodb()
        bucket = target.output("SpoolBucket")
        urls = {queue: url for (queue, is_dead), url in target.queue_urls().items() if not is_dead}
        spool = S3Spool(s3, bucket, QuickPut(s3, bucket))
        gathered = _Gathered(SqsJobQueue(sqs, urls))
        ports: Any = SimpleNamespace(
            spool=spool,
            queue=gathered,
            ledger=DynamoLedger(dynamodb, target.output("DeliveriesTable")),
            control=control.control,
            resolver=ZoneResolver({"*": Node(mx=[(10, "mx.bench.test")])}),
            clock=SystemClock(),
            ids=UlidSource(),
            metrics=CountedMetrics(),
            hostname="relay.localhost",
        )
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> str:
            async def read() -> AsyncIterator[bytes]:
                yield content

            async with limit:
                caught, message_id = _Caught(), str(ports.ids.new_id())
                await Acceptance.over(SimpleNamespace(**{**vars(ports), "queue": caught})).accept(
                    message_id=message_id,
                    received_at=ports.clock.now(),
                    envelope=Envelope(
                        reverse_path=parse_mailbox("bench@sender.test"),
                        recipients=(Recipient(mailbox=parse_mailbox(f"user{number}@{domain}")),),
                    ),
                    source=Source(client="127.0.0.1", helo="bench.test"),
                    content=read(),
                )
                [job] = caught.jobs
                await Resolution.over(ports).resolve(decode(AcceptedJob, job.body))
                return message_id

        ids = await asyncio.gather(*map(one, range(count)))
        await gathered.flush()
        return list(ids)
