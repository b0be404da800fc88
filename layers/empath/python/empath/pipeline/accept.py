"""accept: the raw message to the spool, its job to the queue, and only then may a client hear 250.

The order is the promise. Death before the job is sent leaves an orphan object, which the bucket's
lifecycle removes, and a client that never heard 250 and tries again.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from empath.domain.envelope import Envelope, Metadata, Priority, Source
from empath.domain.ulid import decode_ulid
from empath.pipeline.jobs import AcceptedJob
from empath.pipeline.lanes import group_of_accepted
from empath.pipeline.stage import Stage
from empath.ports import JobQueue, OutgoingJob, QueueName, Spool


def spool_key_of(message_id: str) -> str:
    """Where a message's raw object is; every stage can tell from the id alone."""
    return f"messages/{message_id}"


def trace_id_of(message_id: str) -> str:
    """The X-Ray trace id of a message's life: made of its ULID, so that either leads to the other."""
    milliseconds, randomness = decode_ulid(message_id)
    return f"1-{milliseconds // 1000:08x}-{milliseconds & 0xFFFF:04x}{randomness:020x}"


def trace_header_of(message_id: str) -> str:
    """The trace header of a message's jobs. Sampled by all who trace at all, which is a setting."""
    return f"Root={trace_id_of(message_id)};Sampled=1"


@dataclass(frozen=True, slots=True)
class Additions:
    """What the relay itself adds to a message; known only once all of the content is."""

    prepend: str = ""
    """Header fields (CRLF line ends) that delivery writes in front of the content."""
    metadata: Metadata = field(default_factory=dict)
    priority: Priority = "normal"
    tenant: str | None = None
    has_utf8_header: bool = True
    """False: though SMTPUTF8 was declared (some clients do for all mail), only addresses may need it."""


NOTHING = Additions()


@dataclass(frozen=True, slots=True)
class Acceptance(Stage):
    spool: Spool
    queue: JobQueue

    async def accept(
        self,
        *,
        message_id: str,
        received_at: datetime,
        envelope: Envelope,
        source: Source,
        content: AsyncIterable[bytes],
        additions: Callable[[], Additions] = lambda: NOTHING,
        trace_header: str | None = None,
    ) -> AcceptedJob:
        """Take responsibility for a message; on return it is in the spool and on the queue.

        `content` is byte-exact what the client sent; `additions` is asked once, when all of it is stored.
        Raises SpoolTrouble or QueueTrouble: nothing was accepted then, and the client hears the error's
        reply. What `content` raises passes through.
        """
        size = await self.spool.put(spool_key_of(message_id), content)
        return await self.enqueue(
            message_id=message_id,
            received_at=received_at,
            envelope=envelope,
            source=source,
            size=size,
            added=additions(),
            trace_header=trace_header,
        )

    async def enqueue(
        self,
        *,
        message_id: str,
        received_at: datetime,
        envelope: Envelope,
        source: Source,
        size: int,
        added: Additions = NOTHING,
        trace_header: str | None = None,
    ) -> AcceptedJob:
        """The second half of `accept`, for a message that is in the spool. Raises QueueTrouble."""
        trace_header = trace_header or trace_header_of(message_id)
        job = AcceptedJob(
            message_id=message_id,
            spool_key=spool_key_of(message_id),
            size=size,
            received_at=received_at,
            source=source,
            priority=added.priority,
            tenant=added.tenant,
            metadata=added.metadata,
            prepend=added.prepend,
            trace_header=trace_header,
            **vars(envelope) | {"smtputf8": envelope.smtputf8 and added.has_utf8_header},
        )
        outgoing = OutgoingJob(
            body=job.encode(), trace_header=trace_header, group=group_of_accepted(job.tenant, job.priority)
        )
        await self.queue.send(QueueName.ACCEPTED, [outgoing])
        return job
