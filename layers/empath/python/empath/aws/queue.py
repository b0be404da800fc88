"""The job queues on SQS (standard queues: at least once, in any order)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from empath.aws.errors import trouble
from empath.domain.errors import QueueTrouble
from empath.ports.queue import MAX_DELAY, OutgoingJob, QueueName, ReceivedJob, is_group

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

MAX_ENTRIES = 10  # of SendMessageBatch, and of ReceiveMessage

MAX_BODY = 1_048_576  # octets: SQS's limit of one message
MAX_BATCH = 262_144
"""Octets of one request. SQS takes 1 MiB; this is what every emulator takes, and a larger job goes alone."""

MAX_VISIBILITY = 43_200
"""Seconds that a job can be hidden for."""

ENTRY_TRIES = 2
"""Of an entry that a batch's answer calls failed, the first included; whole calls are tried by the client."""

_TRACE: Literal["AWSTraceHeader"] = "AWSTraceHeader"
_COUNT: Literal["ApproximateReceiveCount"] = "ApproximateReceiveCount"
_GROUP: Literal["MessageGroupId"] = "MessageGroupId"


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
        url = self._url(queue)
        good = [job for job in jobs if is_possible(job)]
        # Every batch is tried, whatever becomes of the others.
        answers = await asyncio.gather(*(self._send_batch(url, batch) for batch in _batches(good)))
        require_taken(len(jobs), [refusal for answer in answers for refusal in answer])

    async def hide(self, queue: QueueName, receipt: str, seconds: int) -> None:
        what = f"hiding a job of queue {queue} for {seconds} s"
        if not 0 <= seconds <= MAX_VISIBILITY:
            raise QueueTrouble(f"{what}: out of range")
        with trouble(QueueTrouble, what):
            await self._client.change_message_visibility(
                QueueUrl=self._url(queue), ReceiptHandle=receipt, VisibilityTimeout=seconds
            )

    async def receive_dead(self, queue: QueueName, limit: int = MAX_ENTRIES) -> list[ReceivedJob]:
        with trouble(QueueTrouble, f"reading the dead-letter queue of {queue}"):
            answer = await self._client.receive_message(
                QueueUrl=_address(self._dead_urls, queue),
                MaxNumberOfMessages=max(1, min(limit, MAX_ENTRIES)),
                MessageSystemAttributeNames=[_COUNT, _TRACE, _GROUP],
            )
        return [received_job(message) for message in answer.get("Messages", ())]

    async def delete_dead(self, queue: QueueName, receipt: str) -> None:
        with trouble(QueueTrouble, f"deleting from the dead-letter queue of {queue}"):
            await self._client.delete_message(
                QueueUrl=_address(self._dead_urls, queue), ReceiptHandle=receipt
            )

    async def probe(self, queue: QueueName) -> None:
        """Raises QueueTrouble unless the queue answers us (sqs:GetQueueAttributes, and nothing changes)."""
        with trouble(QueueTrouble, f"asking for queue {queue}"):
            await self._client.get_queue_attributes(
                QueueUrl=self._url(queue), AttributeNames=["MaximumMessageSize"]
            )

    def _url(self, queue: QueueName) -> str:
        return _address(self._urls, queue)

    async def _send_batch(self, url: str, batch: Sequence[OutgoingJob]) -> list[str | None]:
        """Why each job of a batch was not taken; None where it was. An entry that fails is sent once more."""
        refusals: dict[int, str] = {}
        left = dict(enumerate(batch))
        for _ in range(ENTRY_TRIES):
            try:
                refusals = await self._request(url, left)
            except QueueTrouble as whole:
                refusals = dict.fromkeys(left, str(whole))
                break
            left = {number: left[number] for number in refusals}
            if not left:
                break
        return [refusals.get(number) for number in range(len(batch))]

    async def _request(self, url: str, jobs: Mapping[int, OutgoingJob]) -> dict[int, str]:
        """Those that were not taken, and why. Raises QueueTrouble when nothing is known to be taken."""
        if len(jobs) == 1:
            # The plain call costs the same; and moto and MiniStack lose trace headers in batches.
            [job] = jobs.values()
            with trouble(QueueTrouble, "sending a job"):
                await self._client.send_message(QueueUrl=url, **_message(job))
            return {}
        entries: Any = [{"Id": str(number), **_message(job)} for number, job in jobs.items()]
        with trouble(QueueTrouble, f"sending {len(entries)} jobs"):
            answer = await self._client.send_message_batch(QueueUrl=url, Entries=entries)
        # Only what is said to be taken is taken: of an entry that the answer does not name nobody knows.
        taken = {entry["Id"] for entry in answer.get("Successful", ())}
        codes = {failure["Id"]: str(failure.get("Code")) for failure in answer.get("Failed", ())}
        return {
            number: codes.get(str(number), "not in the answer") for number in jobs if str(number) not in taken
        }


class Batch:
    """Jobs that fit in one request."""

    def __init__(self) -> None:
        self.jobs: list[OutgoingJob] = []
        self._octets = 0

    @property
    def is_full(self) -> bool:
        return len(self.jobs) == MAX_ENTRIES

    def add(self, job: OutgoingJob) -> bool:
        """Whether there was room for one more; there always is for the first."""
        octets = _octets_of(job)
        if self.jobs and (self.is_full or self._octets + octets > MAX_BATCH):
            return False
        self.jobs.append(job)
        self._octets += octets
        return True


def is_possible(job: OutgoingJob) -> bool:
    """Whether SQS could take it at all."""
    if job.group is not None and not is_group(job.group):
        return False
    return 0 <= job.delay <= MAX_DELAY and 0 < _octets_of(job) <= MAX_BODY


def require_taken(jobs: int, refusals: Sequence[str | None]) -> None:
    """Raise QueueTrouble unless all of `jobs` were sent and none was refused."""
    reasons = [refusal for refusal in refusals if refusal is not None]
    reasons += ["too long, empty, delayed for too long, or of a group that cannot be"] * (
        jobs - len(refusals)
    )
    if reasons:
        raise QueueTrouble(f"{len(reasons)} of {jobs} jobs were not taken: {'; '.join(sorted(set(reasons)))}")


def received_job(message: Mapping[str, Any]) -> ReceivedJob:
    """A message of ReceiveMessage as a job."""
    attributes = message.get("Attributes", {})
    return ReceivedJob(
        body=message["Body"],
        receipt=message["ReceiptHandle"],
        receive_count=int(attributes.get(_COUNT, 1)),
        message_id=message["MessageId"],
        trace_header=attributes.get(_TRACE),
        group=attributes.get(_GROUP),
    )


def _address(urls: Mapping[QueueName, str], queue: QueueName) -> str:
    try:
        return urls[queue]
    except KeyError:
        raise QueueTrouble(f"this worker was given no address for queue {queue}") from None


def _octets_of(job: OutgoingJob) -> int:
    return len(job.body.encode())


def _batches(jobs: Sequence[OutgoingJob]) -> Iterator[list[OutgoingJob]]:
    batch = Batch()
    for job in jobs:
        if not batch.add(job):
            yield batch.jobs
            batch = Batch()
            batch.add(job)
    if batch.jobs:
        yield batch.jobs


def _message(job: OutgoingJob) -> dict[str, Any]:
    message: dict[str, Any] = {"MessageBody": job.body}
    if job.delay:
        message["DelaySeconds"] = job.delay
    if job.group:
        # On a standard queue this asks for fairness among groups, and for no order within one.
        message[_GROUP] = job.group
    if job.trace_header:
        message["MessageSystemAttributes"] = {_TRACE: {"DataType": "String", "StringValue": job.trace_header}}
    return message
