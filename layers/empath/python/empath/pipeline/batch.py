"""A batch of queue jobs: each is worked on by itself, and fails by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

from empath.domain.errors import EmpathError, QueueTrouble, Trouble, UnreadableJob
from empath.ports import JobQueue, QueueName, ReceivedJob

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[ReceivedJob], Awaitable[bool]]
Around = Callable[[ReceivedJob], AbstractContextManager[None]]


def _nothing(job: ReceivedJob) -> AbstractContextManager[None]:
    return nullcontext()


async def work_through(
    jobs: Sequence[ReceivedJob],
    work: Work,
    *,
    queue: JobQueue,
    name: QueueName,
    around: Around = _nothing,
) -> list[str]:
    """Do `work` on every job at the same time; the ids of those that must come back.

    `around` gives each job's work and log lines their context.

    A job is done with only when `work` returns True. Whatever it raises is logged and fails that job
    alone; after too many times the queue moves it to its dead-letter queue.
    """

    async def one(job: ReceivedJob) -> bool:
        with around(job):
            return await _guarded(job, work, queue, name)

    done = await asyncio.gather(*map(one, jobs))
    return [job.message_id for job, is_done in zip(jobs, done, strict=True) if not is_done]


async def all_of(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do everything at the same time, to its end; the results in order, or else the first error of all."""
    ends = await asyncio.gather(*work, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return cast(list[T], ends)


async def _guarded(job: ReceivedJob, work: Work, queue: JobQueue, name: QueueName) -> bool:
    about = {"queue": name, "job_id": job.message_id, "receive_count": job.receive_count}
    try:
        return await work(job)
    except UnreadableJob as error:
        logger.error("unreadable job", extra={**about, "error": str(error)})
        await _hurry_to_dead_letters(job, queue, name)
    except Trouble as error:
        logger.warning("job has to wait", extra={**about, "error": str(error)})
    except EmpathError as error:
        logger.error("job failed", extra={**about, "error": str(error)})
    except Exception:
        logger.exception("job failed unexpectedly", extra=about)
    return False


async def _hurry_to_dead_letters(job: ReceivedJob, queue: JobQueue, name: QueueName) -> None:
    """No other try will read it: let the queue count them at once."""
    try:
        await queue.hide(name, job.receipt, 0)
    except QueueTrouble as error:
        logger.info("unreadable job waits for its visibility timeout", extra={"error": str(error)})
