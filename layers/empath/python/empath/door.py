"""What the doors share: a Lambda event in, jobs of the pipeline out, and the failed ones back.

Knows the shape of Lambda's events (events/ has them) and nothing of what a stage does with a job.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from empath.aws.items import record_of_image
from empath.bootstrap import Ports
from empath.config.environment import ConfigError
from empath.domain.errors import LedgerTrouble
from empath.observe.logging import log_context
from empath.observe.tracing import continued, traced
from empath.pipeline.accept import trace_header_of
from empath.pipeline.batch import work_through
from empath.pipeline.changes import Record, StreamChange
from empath.pipeline.jobs import Job, decode
from empath.ports import QueueName, ReceivedJob

Event = Mapping[str, Any]
Failures = dict[str, list[dict[str, str]]]
J = TypeVar("J", bound=Job)
Work = Callable[[J, ReceivedJob, QueueName], Awaitable[bool]]


class Context(Protocol):
    """What a door uses of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int: ...


def seconds_left(context: Context) -> Callable[[], float]:
    """How long the invocation may still take, asked anew each time."""
    return lambda: context.get_remaining_time_in_millis() / 1000


async def work_on_jobs(event: Event, kind: type[J], work: Work[J], ports: Ports) -> Failures:
    """Decode every job of an SQS event and do `work` on it; the partial batch response."""
    name = _queue_of(event, ports)

    async def one(received: ReceivedJob) -> bool:
        try:
            with traced(name):
                return await work(decode(kind, received.body), received, name)
        finally:
            ports.in_hand -= 1

    jobs = received_jobs(event)
    ports.in_hand = len(jobs)
    failed = await work_through(jobs, one, queue=ports.queue, name=name, around=_about)
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in failed]}


def received_jobs(event: Event) -> list[ReceivedJob]:
    """The records of an SQS event."""
    return [
        ReceivedJob(
            body=record["body"],
            receipt=record["receiptHandle"],
            receive_count=int(record["attributes"].get("ApproximateReceiveCount", "1")),
            message_id=record["messageId"],
            trace_header=record["attributes"].get("AWSTraceHeader"),
            group=record["attributes"].get("MessageGroupId"),
        )
        for record in event["Records"]
    ]


def stream_changes(event: Event) -> Sequence[StreamChange]:
    """Every change in an event of the ledger's stream, in order; None for an image that is none of ours.

    Raises LedgerTrouble for a record that this release cannot read, before anything is done with the others.
    """
    return [_change(record) for record in event["Records"]]


def _change(record: Any) -> StreamChange:
    try:
        change = record["dynamodb"]
        return StreamChange(
            id=str(record["eventID"]),
            at=datetime.fromtimestamp(change["ApproximateCreationDateTime"], UTC),
            old=_record(change.get("OldImage")),
            new=_record(change.get("NewImage")),
        )
    except (LedgerTrouble, *_OF_NO_FORM) as error:
        words = str(error) if isinstance(error, LedgerTrouble) else f"{type(error).__name__}: {error}"
        raise LedgerTrouble(f"the stream's record {_name_of(record)} cannot be read: {words}") from error


_OF_NO_FORM = (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError)
"""What reading something else than a record of a stream raises."""


def _name_of(record: Any) -> str:
    """Of a record that may be anything: where it lies in the stream, and what changed there."""
    try:
        change = record["dynamodb"]
        keys = "/".join(value["S"] for value in change.get("Keys", {}).values())
        return f"{change.get('SequenceNumber')} ({keys})"
    except _OF_NO_FORM:
        return "without a name"


def _record(image: Mapping[str, Any] | None) -> Record | None:
    return record_of_image(image) if image else None


def _queue_of(event: Event, ports: Ports) -> QueueName:
    """Which of our queues an SQS event came from: its ARN and the queue's URL end in the same name."""
    source = event["Records"][0]["eventSourceARN"].rsplit(":", 1)[-1]
    for name, url in ports.config.queue_urls.items():
        if url.rsplit("/", 1)[-1] == source:
            return name
    raise ConfigError(f"jobs came from queue {source}, whose URL is in no EMPATH_..._QUEUE_URL variable")


@contextmanager
def _about(received: ReceivedJob) -> Iterator[None]:
    """Log lines and trace of one job, readable or not."""
    try:
        body = json.loads(received.body)
    except ValueError:
        body = None
    fields = body if isinstance(body, dict) else {}
    known = {name: fields.get(name) for name in ("message_id", "delivery", "attempt", "event")}
    header = received.trace_header
    if header is None and isinstance(known["message_id"], str):
        # An emulator that drops the header of batched jobs; the id says the same.
        with suppress(ValueError):
            header = trace_header_of(known["message_id"])
    with continued(header), log_context(**known):
        yield
