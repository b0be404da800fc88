"""The job queues on SQS (standard queues: at least once, in any order)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from empath.aws.errors import trouble
from empath.domain.errors import QueueTrouble
from empath.ports.queue import MAX_DELAY, OutgoingJob, QueueName, ReceivedJob

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

MAX_ENTRIES = 10  # of SendMessageBatch, and of ReceiveMessage

MAX_BODY = 1_048_576  # octets: SQS's limit of one message
MAX_BATCH = 262_144
"""Octets of one request. SQS takes 1 MiB; this is what every emulator takes, and a larger job goes alone."""

MAX_VISIBILITY = 43_200
"""Seconds that a job can be hidden for."""

_TRACE: Literal["AWSTraceHeader"] = "AWSTraceHeader"
_COUNT: Literal["ApproximateReceiveCount"] = "ApproximateReceiveCount"


class SqsJobQueue:
    """`urls` of the queues and `dead_urls` of their dead-letter queues; a worker needs only those it uses."""

    def __init__(
        self,
        client: SQSClient,
        urls: Mapping[QueueName, str],
        dead_urls: Mapping[QueueName, str] | None = None,
    ) -> None:
        self._client = client
        self._urls = urls
        self._dead_urls = dead_urls or {}

    async def send(self, queue: QueueName, jobs: Sequence[OutgoingJob]) -> None:
        url = _url(self._urls, queue)
        good = [job for job in jobs if _is_possible(job)]
        # Every batch is tried, whatever becomes of the others.
        results = await asyncio.gather(
            *(self._send_batch(url, batch) for batch in _batches(good)), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        refused = len(jobs) - len(good)
        if refused:
            raise QueueTrouble(f"{refused} of {len(jobs)} jobs are too long, empty or delayed for too long")

    async def hide(self, queue: QueueName, receipt: str, seconds: int) -> None:
        what = f"hiding a job of queue {queue} for {seconds} s"
        if not 0 <= seconds <= MAX_VISIBILITY:
            raise QueueTrouble(f"{what}: out of range")
        with trouble(QueueTrouble, what):
            await self._client.change_message_visibility(
                QueueUrl=_url(self._urls, queue), ReceiptHandle=receipt, VisibilityTimeout=seconds
            )

    async def receive_dead(self, queue: QueueName, limit: int = MAX_ENTRIES) -> list[ReceivedJob]:
        with trouble(QueueTrouble, f"reading the dead-letter queue of {queue}"):
            answer = await self._client.receive_message(
                QueueUrl=_url(self._dead_urls, queue),
                MaxNumberOfMessages=max(1, min(limit, MAX_ENTRIES)),
                MessageSystemAttributeNames=[_COUNT, _TRACE],
            )
        return [received_job(message) for message in answer.get("Messages", ())]

    async def delete_dead(self, queue: QueueName, receipt: str) -> None:
        with trouble(QueueTrouble, f"deleting from the dead-letter queue of {queue}"):
            await self._client.delete_message(QueueUrl=_url(self._dead_urls, queue), ReceiptHandle=receipt)

    async def _send_batch(self, url: str, batch: Sequence[OutgoingJob]) -> None:
        if len(batch) == 1:
            # The plain call costs the same; and moto and MiniStack lose trace headers in batches.
            entry = _entry("0", batch[0])
            del entry["Id"]
            with trouble(QueueTrouble, "sending a job"):
                await self._client.send_message(QueueUrl=url, **entry)
            return
        entries = {str(number): _entry(str(number), job) for number, job in enumerate(batch)}
        failures: list[Any] = []
        for _ in range(2):
            with trouble(QueueTrouble, f"sending {len(entries)} jobs"):
                answer = await self._client.send_message_batch(QueueUrl=url, Entries=list(entries.values()))
            failures = list(answer.get("Failed", ()))
            if not failures:
                return
            entries = {failure["Id"]: entries[failure["Id"]] for failure in failures}
        codes = ", ".join(sorted({str(failure.get("Code")) for failure in failures}))
        raise QueueTrouble(f"{len(failures)} of {len(batch)} jobs were not taken: {codes}")


def received_job(message: Mapping[str, Any]) -> ReceivedJob:
    """A message of ReceiveMessage as a job."""
    attributes = message.get("Attributes", {})
    return ReceivedJob(
        body=message["Body"],
        receipt=message["ReceiptHandle"],
        receive_count=int(attributes.get(_COUNT, 1)),
        message_id=message["MessageId"],
        trace_header=attributes.get(_TRACE),
    )


def _url(urls: Mapping[QueueName, str], queue: QueueName) -> str:
    try:
        return urls[queue]
    except KeyError:
        raise QueueTrouble(f"this worker was given no address for queue {queue}") from None


def _is_possible(job: OutgoingJob) -> bool:
    return 0 <= job.delay <= MAX_DELAY and 0 < len(job.body.encode()) <= MAX_BODY


def _batches(jobs: Sequence[OutgoingJob]) -> Iterator[list[OutgoingJob]]:
    batch: list[OutgoingJob] = []
    octets = 0
    for job in jobs:
        size = len(job.body.encode())
        if batch and (len(batch) == MAX_ENTRIES or octets + size > MAX_BATCH):
            yield batch
            batch, octets = [], 0
        batch.append(job)
        octets += size
    if batch:
        yield batch


def _entry(entry_id: str, job: OutgoingJob) -> Any:
    entry: dict[str, Any] = {"Id": entry_id, "MessageBody": job.body}
    if job.delay:
        entry["DelaySeconds"] = job.delay
    if job.trace_header:
        entry["MessageSystemAttributes"] = {_TRACE: {"DataType": "String", "StringValue": job.trace_header}}
    return entry
