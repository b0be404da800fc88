"""SMTP listeners to be measured, each in a process of its own: Empath's, aiosmtpd, and a floor.

All of them throw away what they accept (the null spool), take mail from and to anywhere, and log nothing.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import resource
import ssl
import time
from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop
from aiosmtpd.smtp import SMTP

from benchmarks.floor import Floor
from empath.ingress.listener import serve
from empath.ingress.settings import IngressSettings
from empath.ingress.tls import FixedCertificate
from empath.pipeline.accept import Acceptance
from empath.ports import OutgoingJob, QueueName
from empath.system import SystemClock, UlidSource
from empath.testing.certificates import server_context
from empath.testing.metrics import CountedMetrics

HOSTNAME = "relay.test"
MAX_SIZE = 50 * 1024 * 1024
MANY = 20_000
"""Connections that no limit of a listener is to stand in the way of."""

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}
PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Usage:
    cpu: float
    """Seconds of CPU, user and system, since the process began."""

    resident: int
    """Octets of memory."""


class NullSpool:
    async def put(self, key: str, content: AsyncIterable[bytes]) -> int:
        size = 0
        async for octets in content:
            size += len(octets)
        return size


class NullQueue:
    async def send(self, queue: QueueName, jobs: Sequence[OutgoingJob]) -> None:
        """Nothing is kept."""


class NullHandler:
    """aiosmtpd's null spool; it hands over a message whole."""

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802 (its name)
        return f"250 Ok: {len(envelope.content)} octets"


async def _empath(tls: ssl.SSLContext | None) -> int:
    settings = IngressSettings(
        port=0,
        hostname=HOSTNAME,
        max_size=MAX_SIZE,
        max_connections=MANY,
        max_connections_per_client=MANY,
        tls=FixedCertificate(tls) if tls else None,
    )
    acceptance = Acceptance(NullSpool(), NullQueue())  # type: ignore[arg-type]  # accept needs no more of them
    listener = await serve(settings, acceptance, SystemClock(), UlidSource(), CountedMetrics())
    return listener.port


async def _aiosmtpd(tls: ssl.SSLContext | None) -> int:
    handler, loop = NullHandler(), asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(handler, data_size_limit=MAX_SIZE, hostname=HOSTNAME, tls_context=tls, loop=loop)

    return await _listen(session)


async def _floor(tls: ssl.SSLContext | None) -> int:
    return await _listen(Floor)


async def _listen(factory: Callable[[], asyncio.BaseProtocol]) -> int:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, backlog=1024)
    return int(server.sockets[0].getsockname()[1])


KINDS = {"empath": _empath, "aiosmtpd": _aiosmtpd, "floor": _floor}


class Listening:
    """A listener that runs in another process."""

    def __init__(self, port: int, pipe: Connection) -> None:
        self.port = port
        self._pipe = pipe

    def usage(self) -> Usage:
        self._pipe.send(None)
        usage: Usage = self._pipe.recv()
        return usage


@contextmanager
def listening(kind: str, loop: str, tls: bool = False) -> Iterator[Listening]:
    """A listener of `kind` on a free port of 127.0.0.1, which offers STARTTLS if `tls`."""
    ours, its = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_run, args=(kind, loop, tls, its), daemon=True)
    process.start()
    try:
        yield Listening(ours.recv(), ours)
    finally:
        process.terminate()
        process.join()


def raise_open_files() -> int:
    """Open as many files as this process may; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _run(kind: str, loop: str, tls: bool, pipe: Connection) -> None:
    raise_open_files()
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(_serve(kind, tls, pipe))


async def _serve(kind: str, tls: bool, pipe: Connection) -> None:
    port = await KINDS[kind](server_context(HOSTNAME) if tls else None)
    gc.collect()
    gc.freeze()  # as the ingress does when it has begun to listen
    pipe.send(port)

    def answer() -> None:
        pipe.recv()
        pipe.send(Usage(cpu=time.process_time(), resident=_resident()))

    asyncio.get_running_loop().add_reader(pipe.fileno(), answer)
    await asyncio.Event().wait()


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
