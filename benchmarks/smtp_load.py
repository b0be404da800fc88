"""Clients that deliver to a listener, as cheaply as clients can be, in a process of their own.

One command at a time, unless `pipelined`: each waits for the reply to the one before, because not every
listener that is measured offers PIPELINING. They poll their sockets instead of sleeping: clients on machines
of their own are not woken up by the listener's process either, and that would be half of its writes' cost.
Recipients differ from message to message, as they do in real mail.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import cast

import uvloop

from benchmarks.listeners import PROCESSES

LINE = b"x" * 70 + b"\r\n"
HEADER = b"From: <bench@sender.test>\r\nTo: <user@bench.test>\r\nSubject: benchmark\r\n\r\n"
MAIL = b"MAIL FROM:<bench@sender.test>\r\n"
_NUMBERS = count()

Step = tuple[bytes, tuple[bytes, ...]]
"""Octets to be sent, and the codes of the replies to them."""


@dataclass(frozen=True, slots=True)
class Load:
    messages: int
    """In all; each session sends its share of them."""

    size: int
    """Octets of each."""

    sessions: int = 20
    reuse: bool = True
    """Whether a session sends all its messages over one connection; else each over a new one."""

    pipelined: bool = False
    """Whether MAIL, RCPT and DATA go out together (RFC 2920)."""


def run(port: int, load: Load) -> None:
    """Deliver it all. Raises RuntimeError when something is not accepted."""
    ours, its = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_run, args=(port, load, its), daemon=True)
    process.start()
    its.close()
    try:
        failure = ours.recv()
    except EOFError:
        failure = "the clients' process died"
    process.join()
    if failure is not None:
        raise RuntimeError(failure)


def _run(port: int, load: Load, pipe: object) -> None:
    failure = None
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_deliver(port, load))
    except Exception as error:  # noqa: BLE001 (it is told to the process that waits)
        failure = str(error) or type(error).__name__
    pipe.send(failure)  # type: ignore[attr-defined]


async def _deliver(port: int, load: Load) -> None:
    _poll(asyncio.get_running_loop())
    content = content_of(load.size)
    share = max(load.messages // load.sessions, 1)
    async with asyncio.TaskGroup() as group:
        for _ in range(load.sessions):
            group.create_task(_session(port, content, share, load))


async def _session(port: int, content: bytes, messages: int, load: Load) -> None:
    transactions = [_transaction(content, load.pipelined) for _ in range(messages)]
    connections = [list(chain(*transactions))] if load.reuse else transactions
    for steps in connections:
        client = _Client(
            [(b"", (b"220",)), (b"EHLO client.test\r\n", (b"250",)), *steps, (b"QUIT\r\n", (b"221",))]
        )
        await asyncio.get_running_loop().create_connection(_always(client), "127.0.0.1", port)
        await client.done


def _transaction(content: bytes, pipelined: bool) -> list[Step]:
    recipient = b"RCPT TO:<user%d@bench.test>\r\n" % next(_NUMBERS)
    if pipelined:
        return [(MAIL + recipient + b"DATA\r\n", (b"250", b"250", b"354")), (content, (b"250",))]
    return [(MAIL, (b"250",)), (recipient, (b"250",)), (b"DATA\r\n", (b"354",)), (content, (b"250",))]


def _poll(loop: asyncio.AbstractEventLoop) -> None:
    """Never let the event loop sleep."""
    loop.call_soon(_poll, loop)


def _always(client: _Client) -> Callable[[], _Client]:
    return lambda: client


class _Client(asyncio.Protocol):
    def __init__(self, steps: Sequence[Step]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._steps = iter(steps)
        self._expected = deque(next(self._steps)[1])
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._heard = (self._heard + data).split(b"\r\n")
        for line in lines:
            if line[3:4] == b"-":
                continue
            expected = self._expected.popleft()
            if not line.startswith(expected):
                self._fail(f"expected {expected.decode()}, heard {line.decode(errors='replace')}")
                return
        if not self._expected:
            octets, codes = next(self._steps, (b"", ()))
            self._expected.extend(codes)
            if octets:
                self._transport.write(octets)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._expected:
            self._fail(f"the connection ended where {self._expected[0].decode()} was expected")
        elif not self.done.done():
            self.done.set_result(None)

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(why))
        self._transport.abort()


def content_of(size: int) -> bytes:
    """A message of `size` octets in lines of 72, and its final dot."""
    body = LINE * (size // len(LINE) + 1)
    return HEADER + body[: max(size - len(HEADER) - 2, 0)] + b"\r\n.\r\n"
