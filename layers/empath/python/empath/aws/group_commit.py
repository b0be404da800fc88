"""A job queue whose concurrent senders share requests, as databases share one fsync among transactions.

A request costs the same with one entry and with ten, and the client's CPU for it is most of what a message
costs after its PUT. So a job waits for others, but only as long as that can pay off:

- a request that is full goes out at once;
- so does one that nobody is on the way to: a lone session never waits (PostgreSQL's commit_siblings);
- any other when its first job has waited for PATIENCE (PostgreSQL's commit_delay).

Who is on the way is the caller's to say: sessions whose last request to the spool is under way come with a
job within one answer of S3. Requests do not wait for each other: one that stalls holds up its own entries.

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

PATIENCE = 0.005
"""Seconds that a job waits for others at most; SQS itself takes as long to answer."""


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
        self._requests: set[asyncio.Task[None]] = set()

    async def send(self, queue: QueueName, jobs: Sequence[OutgoingJob]) -> None:
        url = self._url(queue)
        waiting = [self._join(url, job) for job in jobs if is_possible(job)]
        group = self._groups.get(url)
        if group is not None and (group.is_full or not self._on_the_way()):
            self._commit(url)
        require_taken(len(jobs), [await refusal for refusal in waiting])

    def _join(self, url: str, job: OutgoingJob) -> asyncio.Future[str | None]:
        group = self._groups.get(url)
        if group is None or not group.add(job):
            if group is not None:
                self._commit(url)
            timer = asyncio.get_running_loop().call_later(self._patience, self._commit, url)
            group = self._groups[url] = _Group(timer)
            group.add(job)
        refusal: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        group.refusals.append(refusal)
        return refusal

    def _commit(self, url: str) -> None:
        group = self._groups.pop(url)
        group.timer.cancel()
        # In a task of its own: whoever of the group is cancelled takes nobody else's request with him.
        request = asyncio.get_running_loop().create_task(self._request_of(url, group))
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

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        super().__init__()
        self.timer = timer
        self.refusals: list[asyncio.Future[str | None]] = []

    def entries(self) -> list[tuple[OutgoingJob, asyncio.Future[str | None]]]:
        return list(zip(self.jobs, self.refusals, strict=True))
