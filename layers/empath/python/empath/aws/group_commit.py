"""A job queue whose concurrent senders share requests, as databases share one fsync among transactions.

A request costs the same with one entry and with ten, and the client's CPU for it is most of what a message
costs after its PUT. So a job waits for others, but only where that pays off. A request goes out

- when it is full;
- when it has as many jobs as the one before and nobody is on the way: a lone session never waits, and of
  sessions that answer each other in a rhythm none leaves without the others;
- when its first job has waited for PATIENCE (PostgreSQL's commit_delay).

Who is on the way is the caller's to say: sessions whose last request to the spool is under way come with a
job within one answer of S3 (PostgreSQL's commit_siblings). That alone is not enough: of a crowd that was
answered together the first is back before any other is seen. Requests do not wait for each other: one that
stalls holds up its own entries.

Nobody is told anything before SQS has confirmed his own entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from empath.aws.queue import Batch, SqsJobQueue, is_possible, require_taken
from empath.ports.queue import OutgoingJob, QueueName

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

PATIENCE = 0.008
"""Seconds that a job waits for others at most, about as long as SQS takes to answer. A core accepts ten
messages in that time, so that twenty busy sessions fill their requests."""

MEMORY = 0.25
"""Seconds after which the request before tells nothing any more."""


class GroupCommit(SqsJobQueue):
    def __init__(
        self,
        client: SQSClient,
        urls: Mapping[QueueName, str],
        dead_urls: Mapping[QueueName, str] | None = None,
        *,
        on_the_way: Callable[[], int],
        patience: float = PATIENCE,
    ) -> None:
        """`on_the_way` tells how many jobs are about to be sent; it is asked for each one that is."""
        super().__init__(client, urls, dead_urls)
        self._on_the_way = on_the_way
        self._patience = patience
        self._groups: dict[str, _Group] = {}
        self._before: dict[str, tuple[int, float]] = {}
        """How many jobs the last request had, and when it went out."""
        self._requests: set[asyncio.Task[None]] = set()
        self.senders = 0
        """Who waits for SQS now."""

    async def send(self, queue: QueueName, jobs: Sequence[OutgoingJob]) -> None:
        url = self._url(queue)
        waiting = [self._join(url, job) for job in jobs if is_possible(job)]
        self.senders += 1
        try:
            group = self._groups.get(url)
            if group is not None and (group.is_full or (group.is_as_expected and not self._on_the_way())):
                self._commit(url)
            require_taken(len(jobs), [await refusal for refusal in waiting])
        finally:
            self.senders -= 1

    def _join(self, url: str, job: OutgoingJob) -> asyncio.Future[str | None]:
        loop = asyncio.get_running_loop()
        group = self._groups.get(url)
        if group is None or not group.add(job):
            if group is not None:
                self._commit(url)
            timer = loop.call_later(self._patience, self._commit, url)
            group = self._groups[url] = _Group(timer, self._expected(url, loop.time()))
            group.add(job)
        refusal: asyncio.Future[str | None] = loop.create_future()
        group.refusals.append(refusal)
        return refusal

    def _expected(self, url: str, now: float) -> int:
        jobs, at = self._before.get(url, (1, now))
        return jobs if now - at < MEMORY else 1

    def _commit(self, url: str) -> None:
        loop = asyncio.get_running_loop()
        group = self._groups.pop(url)
        group.timer.cancel()
        self._before[url] = len(group.jobs), loop.time()
        # In a task of its own: whoever of the group is cancelled takes nobody else's request with him.
        request = loop.create_task(self._request_of(url, group))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)

    async def _request_of(self, url: str, group: _Group) -> None:
        wanted = [entry for entry in group.entries() if not entry[1].done()]  # a cancelled sender is done
        try:
            answers = await self._send_batch(url, [job for job, _ in wanted]) if wanted else []
            for (_, refusal), answer in zip(wanted, answers, strict=True):
                if not refusal.done():
                    refusal.set_result(answer)
        finally:
            for _, refusal in wanted:
                refusal.cancel()  # nobody waits for ever should this task be cancelled; else all are done


class _Group(Batch):
    """Jobs that wait for their request, each with the place where its sender looks for the answer."""

    def __init__(self, timer: asyncio.TimerHandle, expected: int) -> None:
        super().__init__()
        self.timer = timer
        self._expected = expected
        self.refusals: list[asyncio.Future[str | None]] = []

    @property
    def is_as_expected(self) -> bool:
        return len(self.jobs) >= self._expected

    def entries(self) -> list[tuple[OutgoingJob, asyncio.Future[str | None]]]:
        return list(zip(self.jobs, self.refusals, strict=True))
