"""The SMTP client side by side with aiosmtplib: wall time, CPU and round trips per message, in one run.

    .venv/bin/python -m benchmarks.delivery [--quick] [--uvloop]

One connection at a time, one recipient, against the scripted sink in a process of its own, which answers at
once or adds 20 ms to every batch of replies; an answer that is waited for alone is a batch. Round trips are
counted there: the times that the client waited after it had sent something (the greeting is none). CPU is
the client process's. Each figure is the median of several rounds, in which the clients take turns. Exit
code 1 when a goal of the warm client is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import aiosmtplib
import uvloop

from empath.domain.outcome import Sent
from empath.net.dialer import SmtpDialer
from empath.net.pool import ConnectionPool
from empath.ports import Channel, Endpoint, Transaction
from empath.smtp.client import BLOCK
from empath.system import SystemClock
from empath.testing.metrics import CountedMetrics
from empath.testing.smtp_sink import Act, Session, SmtpSink

SENDER, RECIPIENT = "bench@sender.test", "user@bench.test"
HEADER = b"From: <bench@sender.test>\r\nTo: <user@bench.test>\r\nSubject: benchmark\r\n\r\n"
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
EVERYTHING = ("PIPELINING", "CHUNKING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES")
LATENCIES = (0.0, 0.02)
GOAL_SPEED = 3.0
"""How many times aiosmtplib's pace, connections reused, at 20 ms."""

_PROCESSES = multiprocessing.get_context("spawn")


class CountingSink(SmtpSink):
    """Counts messages instead of keeping them."""

    taken = 0

    async def take(self, session: Session, content: bytes) -> Act | None:
        self.taken += 1
        return None

    def counts(self) -> tuple[int, int]:
        """Messages and round trips since the last time."""
        counts = self.taken, sum(len(session.flights) for session in self.sessions)
        self.taken = 0
        for session in self.sessions:
            session.flights.clear()
            session.commands.clear()
        return counts


def _serve(pipe: Connection, extensions: tuple[str, ...], latency: float) -> None:
    async def serve() -> None:
        async with CountingSink(extensions=extensions, latency=latency, history=10_000) as sink:
            pipe.send(sink.port)
            while await asyncio.to_thread(pipe.recv):
                pipe.send(sink.counts())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


@dataclass(frozen=True, slots=True)
class Sink:
    port: int
    pipe: Connection

    def counts(self) -> tuple[int, int]:
        self.pipe.send(True)
        messages, flights = self.pipe.recv()
        return messages, flights


@contextmanager
def serving(extensions: tuple[str, ...], latency: float) -> Iterator[Sink]:
    ours, its = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_serve, args=(its, extensions, latency), daemon=True)
    process.start()
    try:
        yield Sink(ours.recv(), ours)
    finally:
        ours.send(False)
        process.join()


# The clients: each sends so many messages, one after the other.


async def empath_cold(port: int, content: bytes, messages: int) -> None:
    dialer = SmtpDialer("client.bench.test")
    for _ in range(messages):
        channel = await dialer.connect(_endpoint(port), deadline=60)
        await _transact(channel, content)
        await channel.close()


async def empath_warm(port: int, content: bytes, messages: int) -> None:
    channel = await SmtpDialer("client.bench.test").connect(_endpoint(port), deadline=60)
    for _ in range(messages):
        await _transact(channel, content)
    await channel.close()


async def empath_pooled(port: int, content: bytes, messages: int) -> None:
    """As the deliver stage does: each message asks for a connection and gives it back."""
    pool = ConnectionPool(SmtpDialer("client.bench.test"), SystemClock(), CountedMetrics())
    for _ in range(messages):
        channel = await pool.connect(_endpoint(port), deadline=60)
        await _transact(channel, content)
        await channel.close()
    await pool.close()


async def aiosmtplib_cold(port: int, content: bytes, messages: int) -> None:
    for _ in range(messages):
        async with _aiosmtplib(port) as client:
            await client.sendmail(SENDER, [RECIPIENT], content)


async def aiosmtplib_reused(port: int, content: bytes, messages: int) -> None:
    async with _aiosmtplib(port) as client:
        for _ in range(messages):
            await client.sendmail(SENDER, [RECIPIENT], content)


def _aiosmtplib(port: int) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(
        hostname="127.0.0.1", port=port, local_hostname="client.bench.test", start_tls=False
    )


def _endpoint(port: int) -> Endpoint:
    return Endpoint("mx.bench.test", ipaddress.ip_address("127.0.0.1"), port, "disabled", LOOPBACK)


async def _transact(channel: Channel, content: bytes) -> None:
    async def read() -> AsyncIterator[bytes]:
        yield HEADER
        yield content[len(HEADER) :]

    mail = Transaction(SENDER, [RECIPIENT], read, len(content))
    result = await channel.transact(mail, deadline=60)
    if not isinstance(result.outcomes[RECIPIENT], Sent):
        raise RuntimeError(f"not sent: {result.outcomes}")


Client = Callable[[int, bytes, int], Awaitable[None]]
WARM, POOLED, WARM_PIPELINED = "empath, warm", "empath, warm by the pool", "empath, warm, PIPELINING only"
REUSED = "aiosmtplib, reused"
CLIENTS: dict[str, tuple[Client, tuple[str, ...]]] = {
    "empath, a connection each": (empath_cold, EVERYTHING),
    WARM: (empath_warm, EVERYTHING),
    POOLED: (empath_pooled, EVERYTHING),
    WARM_PIPELINED: (empath_warm, tuple(word for word in EVERYTHING if word != "CHUNKING")),
    "aiosmtplib, a connection each": (aiosmtplib_cold, EVERYTHING),
    REUSED: (aiosmtplib_reused, EVERYTHING),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one message."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds."""
    round_trips: float


def measure(
    client: Client, sink: Sink, content: bytes, messages: int, loop: Callable[[], asyncio.AbstractEventLoop]
) -> Figures:
    with asyncio.Runner(loop_factory=loop) as runner:
        sink.counts()
        began, used = time.perf_counter(), time.process_time()
        runner.run(_all(client, sink.port, content, messages))
        wall, cpu = time.perf_counter() - began, time.process_time() - used
    taken, flights = sink.counts()
    if taken != messages:
        raise RuntimeError(f"{messages} messages were sent and {taken} arrived")
    return Figures(wall / messages, cpu / messages, flights / messages)


async def _all(client: Client, port: int, content: bytes, messages: int) -> None:
    await client(port, content, messages)


def compare(
    latency: float, content: bytes, messages: int, rounds: int, loop: Callable[[], asyncio.AbstractEventLoop]
) -> dict[str, Figures]:
    """The medians, by client."""
    found: dict[str, list[Figures]] = {name: [] for name in CLIENTS}
    offers = {extensions for _, extensions in CLIENTS.values()}
    with (
        serving(EVERYTHING, latency) as everything,
        serving(next(iter(offers - {EVERYTHING})), latency) as fewer,
    ):
        for number in range(rounds + 1):
            for name, (client, extensions) in CLIENTS.items():
                sink = everything if extensions == EVERYTHING else fewer
                if number:
                    found[name].append(measure(client, sink, content, messages, loop))
                else:  # what is done once is no cost
                    measure(client, sink, content, 3, loop)
    return {
        name: Figures(
            statistics.median(one.wall for one in figures),
            statistics.median(one.cpu for one in figures),
            statistics.median(one.round_trips for one in figures),
        )
        for name, figures in found.items()
    }


def report(title: str, figures: dict[str, Figures]) -> str:
    lines = [f"{title:36}{'messages/s':>12}{'ms each':>10}{'CPU ms':>10}{'round trips':>13}"]
    for name, one in figures.items():
        times = f"{1 / one.wall:12.0f}{one.wall * 1000:10.2f}{one.cpu * 1000:10.3f}"
        lines.append(f"{name:36}{times}{one.round_trips:13.2f}")
    return "\n".join(lines)


def missed(figures: dict[float, dict[str, Figures]], messages: dict[float, int], size: int) -> list[str]:
    """The goals of the warm client that do not hold, in words. Larger content waits for its envelope."""
    late: list[str] = []
    flights = 1 if size < BLOCK else 2
    for latency, by_client in figures.items():
        sessions = {POOLED: -(-messages[latency] // _endpoint(0).messages_per_connection)}
        for name, goal in ((WARM, flights), (POOLED, flights), (WARM_PIPELINED, 2)):
            session = 2 * sessions.get(name, 1) / messages[latency]  # EHLO and QUIT
            if by_client[name].round_trips > goal + session + 1e-9:
                late.append(f"{name}: {by_client[name].round_trips:.2f} round trips")
        for name in (WARM, POOLED):
            if by_client[name].cpu > by_client[REUSED].cpu:
                late.append(f"{name}: more CPU than aiosmtplib at {latency * 1000:.0f} ms")
    slow = figures[LATENCIES[-1]]
    for name in (WARM, POOLED):
        times = slow[REUSED].wall / slow[name].wall
        if size < BLOCK and times < GOAL_SPEED:
            late.append(f"{name}: only {times:.1f} times aiosmtplib's pace at 20 ms")
    return late


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--uvloop", action="store_true", help="on uvloop; Lambda functions run plain asyncio")
    parser.add_argument(
        "--size", type=int, default=5000, help="octets of a message, up to a megabyte (default 5000)"
    )
    given = parser.parse_args()
    if given.size < len(HEADER):
        parser.error(f"--size must be {len(HEADER)} or more")
    loop = uvloop.new_event_loop if given.uvloop else asyncio.new_event_loop
    content = (HEADER + (b"x" * 70 + b"\r\n") * (given.size // 72 + 1))[: given.size - 2] + b"\r\n"
    rounds = 1 if given.quick else 5
    messages = dict(zip(LATENCIES, (200, 20) if given.quick else (1000, 50), strict=True))
    python = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    kind = "uvloop" if given.uvloop else "asyncio"
    sys.stdout.write(f"{python}, {kind}; {given.size} octets, one connection, no TLS\n\n")
    figures = {}
    for latency in LATENCIES:
        figures[latency] = compare(latency, content, messages[latency], rounds, loop)
        sys.stdout.write(report(f"{latency * 1000:.0f} ms per batch of replies", figures[latency]) + "\n\n")
    late = missed(figures, messages, given.size)
    sys.stdout.write(f"goals of the warm client: {'missed: ' + '; '.join(late) if late else 'held'}\n")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
