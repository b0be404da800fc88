"""A dead-letter queue is not an end: what can be read in it goes on, slowly.

A delivery job becomes a deferral with reason `worker_failed`; an accepted job is tried again until the
message expires, and then its sender gets a report; a report job is tried again. Only what nobody can
read stays for the operator (the queue's alarm rings either way).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from empath.domain.delivery_state import State
from empath.domain.errors import EmpathError, UnreadableJob
from empath.domain.outcome import Deferred
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.pipeline.conclude import AttemptResult, conclude, unclaimed_attempt
from empath.pipeline.counting import count_outcomes
from empath.pipeline.followups import FollowUps
from empath.pipeline.jobs import AcceptedJob, DeliveryJob, DsnJob, decode
from empath.pipeline.resolve import Resolution
from empath.pipeline.stage import Stage
from empath.ports import (
    Clock,
    Control,
    IdSource,
    JobQueue,
    Ledger,
    Metrics,
    OutgoingJob,
    QueueName,
    ReceivedJob,
)
from empath.ports.queue import MAX_DELAY

PATIENCE = 4.0
"""How many times longer than usual a delivery waits after its worker failed."""

MAX_ROUNDS = 20
RESERVE = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetters(Stage):
    queue: JobQueue
    ledger: Ledger
    control: Control
    clock: Clock
    ids: IdSource
    metrics: Metrics
    resolution: Resolution

    @classmethod
    def over(cls, ports: Any) -> Self:
        return cls(
            ports.queue,
            ports.ledger,
            ports.control,
            ports.clock,
            ports.ids,
            ports.metrics,
            Resolution.over(ports),
        )

    async def sweep(self, remaining: Callable[[], float]) -> int:
        """Bring back every readable job; how many. Raises QueueTrouble when a queue does not answer."""
        revived = 0
        for name in QueueName:
            for _ in range(MAX_ROUNDS):
                if remaining() < RESERVE:
                    return revived
                jobs = await self.queue.receive_dead(name)
                if not jobs:
                    break
                for job in jobs:
                    revived += await self._revive(name, job)
        return revived

    async def _revive(self, name: QueueName, job: ReceivedJob) -> bool:
        try:
            match name:
                case QueueName.ACCEPTED:
                    await self._revive_accepted(job)
                case QueueName.DSN:
                    decode(DsnJob, job.body)
                    await self._send_again(QueueName.DSN, job)
                case _:
                    if not await self._defer(decode(DeliveryJob, job.body)):
                        return False
        except UnreadableJob as error:
            logger.error(
                "unreadable job stays in the dead-letter queue",
                extra={"queue": name, "job_id": job.message_id, "error": str(error)},
            )
            return False
        except EmpathError as error:
            logger.warning(
                "dead letter could not be brought back yet",
                extra={"queue": name, "job_id": job.message_id, "error": str(error)},
            )
            return False
        except Exception:
            # Stays for the operator, and the others behind it have their turn.
            logger.exception(
                "dead letter cannot be brought back", extra={"queue": name, "job_id": job.message_id}
            )
            return False
        await self.queue.delete_dead(name, job.receipt)
        logger.warning("dead letter brought back", extra={"queue": name, "job_id": job.message_id})
        return True

    async def _revive_accepted(self, job: ReceivedJob) -> None:
        if not await self.resolution.expire(decode(AcceptedJob, job.body)):
            await self._send_again(QueueName.ACCEPTED, job)

    async def _send_again(self, name: QueueName, job: ReceivedJob) -> None:
        await self.queue.send(
            name,
            [OutgoingJob(body=job.body, delay=MAX_DELAY, trace_header=job.trace_header, group=job.group)],
        )

    async def _defer(self, job: DeliveryJob) -> bool:
        """Record that the worker failed; False while somebody may still be at work on it."""
        record = await self.ledger.delivery(job.key)
        if record is None:
            return True
        now = self.clock.now()
        follow_ups = FollowUps(self.queue, self.ledger)
        if record.attempt != job.attempt or record.status not in (State.QUEUED, State.DEFERRED):
            await follow_ups.complete(record, now=now)
            return True
        message = await self.ledger.message(record.message_id)
        begun = unclaimed_attempt(record, now=now, owner="dead-letter")
        conclusion = conclude(
            begun,
            AttemptResult.for_all(
                begun,
                Deferred(
                    Reply.of(451, "4.3.0", "The worker failed at every try of this attempt"),
                    Reason.WORKER_FAILED,
                ),
            ),
            now=now,
            policy=(await self.control.policy(record.domain)).retry,
            random=self.ids.random(),
            reportable=message is not None and message.reverse_path is not None,
            patience=PATIENCE,
        )
        if not await self.ledger.record_unclaimed(
            conclusion.record, attempt=job.attempt, now=now, owes=conclusion.owes
        ):
            return False
        count_outcomes(self.metrics, conclusion.record, attempt=job.attempt)
        await follow_ups.complete(conclusion.record, now=now)
        return True
