"""The ingress with its AWS adapters in a process of its own: its listener, and the bare client beside it."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from benchmarks.aws_requests import CREDENTIALS, Requests
from benchmarks.listeners import HOSTNAME, MANY, MAX_SIZE, PROCESSES, raise_open_files
from empath.aws.group_commit import GroupCommit
from empath.aws.quick_put import QuickPut
from empath.aws.session import AwsSession
from empath.aws.spool import S3Spool
from empath.ingress.listener import serve
from empath.ingress.settings import IngressSettings
from empath.pipeline.accept import Acceptance
from empath.ports import QueueName
from empath.system import SystemClock, UlidSource
from empath.testing.metrics import CountedMetrics

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

BUCKET = "empath-benchmark"
QUEUE = "empath-benchmark-accepted"


@dataclass(frozen=True, slots=True)
class Puts:
    """Bare PUTs to be made: `concurrency` at a time."""

    requests: int
    size: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Usage:
    cpu: float
    """Seconds of CPU, user and system, since the process began."""

    calls: Counter[str]
    """Requests by service and operation since then."""

    peak: int
    """Octets: the most memory that was resident at a time since then."""


class Relay:
    def __init__(self, port: int, pipe: Connection) -> None:
        self.port = port
        self._pipe = pipe

    def usage(self) -> Usage:
        self._pipe.send(None)
        usage: Usage = self._pipe.recv()
        return usage

    def put(self, puts: Puts) -> None:
        """Let the relay's S3 client, and nothing else of it, make these requests."""
        self._pipe.send(puts)
        self._pipe.recv()


@contextmanager
def relaying(endpoint: str, certificate: Path | None = None) -> Iterator[Relay]:
    """A listener on a free port of 127.0.0.1 that stores at `endpoint`, whose certificate is trusted.

    Credentials come from the environment, or are those that emulators take."""
    ours, its = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_run, args=(endpoint, certificate, its), daemon=True)
    process.start()
    its.close()
    try:
        yield Relay(ours.recv(), ours)
    finally:
        process.terminate()
        process.join()


def _run(endpoint: str, certificate: Path | None, pipe: Connection) -> None:
    raise_open_files()
    if certificate is not None:
        os.environ["AWS_CA_BUNDLE"] = str(certificate)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(endpoint, pipe))


async def _serve(endpoint: str, pipe: Connection) -> None:
    credentials = {} if "AWS_ACCESS_KEY_ID" in os.environ else CREDENTIALS
    async with AwsSession(endpoint_url=endpoint, **credentials) as session:
        s3, sqs = await session.s3(), await session.sqs()
        await s3.create_bucket(Bucket=BUCKET)
        url = (await sqs.create_queue(QueueName=QUEUE))["QueueUrl"]
        requests = Requests()
        requests.watch(s3)
        requests.watch(sqs)
        spool = S3Spool(s3, BUCKET, QuickPut(s3, BUCKET))
        queue = GroupCommit(sqs, {QueueName.ACCEPTED: url}, on_the_way=lambda: spool.completing)
        settings = IngressSettings(
            port=0,
            hostname=HOSTNAME,
            max_size=MAX_SIZE,
            max_connections=MANY,
            max_connections_per_client=MANY,
        )
        listener = await serve(
            settings, Acceptance(spool, queue), SystemClock(), UlidSource(), CountedMetrics()
        )
        pipe.send(listener.port)
        await _answer(pipe, requests, s3)


async def _answer(pipe: Connection, requests: Requests, s3: S3Client) -> None:
    asked: asyncio.Queue[Puts | None] = asyncio.Queue()
    asyncio.get_running_loop().add_reader(pipe.fileno(), lambda: asked.put_nowait(pipe.recv()))
    while True:
        puts = await asked.get()
        if puts is None:
            pipe.send(Usage(time.process_time(), Counter(requests.calls), _peak()))
        else:
            await _put(s3, puts)
            pipe.send(None)


async def _put(s3: S3Client, puts: Puts) -> None:
    ids, content = UlidSource(), b"x" * puts.size

    async def some(requests: int) -> None:
        for _ in range(requests):
            key = f"messages/{ids.new_id()}"
            await s3.put_object(Bucket=BUCKET, Key=key, Body=content, IfNoneMatch="*")

    share = max(puts.requests // puts.concurrency, 1)
    await asyncio.gather(*(some(share) for _ in range(puts.concurrency)))


def _peak() -> int:
    """Linux counts it for us, in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not tell the peak of a process's memory")
