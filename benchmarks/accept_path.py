"""CPU and AWS requests of accepting a message: the real listener, spool and queue, and a bare PUT beside it.

    .venv/bin/python -m benchmarks.accept_path [--endpoint URL] [--quick]

Without --endpoint requests go to one that answers at once and keeps nothing. Clients, relay and endpoint are
processes of their own; CPU is the relay's. Messages and bare PUTs of the relay's own S3 client, as many at a
time, take turns; each figure is the median of the rounds. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.canned_aws import Manner, answering
from benchmarks.relay_process import Puts, Relay, relaying
from benchmarks.smtp_load import Load, run

SIZE = 5000
SESSIONS = (1, 20, 200)
MESSAGES = 4000
ROUNDS = 5

FROM_SESSIONS = 20
"""The goals hold from here."""

MOST_S3_CALLS = 1.1
MOST_SQS_CALLS = 0.15
MOST_OF_A_PUT = 1.35


@dataclass(frozen=True, slots=True)
class Figures:
    sessions: int
    cpu: float
    """Milliseconds per message."""
    put_cpu: float
    """Milliseconds per bare PUT, as many at a time."""
    s3_calls: float
    """Requests per message."""
    sqs_calls: float

    @property
    def of_a_put(self) -> float:
        return self.cpu / self.put_cpu

    def missed(self) -> Iterator[str]:
        """The goals that these figures miss."""
        if self.sessions < FROM_SESSIONS:
            return
        for what, value, most in (
            ("S3 calls", self.s3_calls, MOST_S3_CALLS),
            ("SQS calls", self.sqs_calls, MOST_SQS_CALLS),
            ("CPU of a bare PUT", self.of_a_put, MOST_OF_A_PUT),
        ):
            if value > most:
                yield f"{self.sessions} sessions: {what} {value:.2f}, at most {most}"


def measure(
    endpoint: str | None = None,
    *,
    sessions: Sequence[int] = SESSIONS,
    messages: int = MESSAGES,
    rounds: int = ROUNDS,
    manner: Manner | None = None,
) -> list[Figures]:
    """Figures by number of sessions; without `endpoint` against a canned one that answers in `manner`."""
    with ExitStack() as stack:
        relay = stack.enter_context(relaying(endpoint or stack.enter_context(answering(manner))))
        return [_figures(relay, count, messages, rounds) for count in sessions]


def _figures(relay: Relay, sessions: int, messages: int, rounds: int) -> Figures:
    load = Load(messages=max(messages // sessions, 1) * sessions, size=SIZE, sessions=sessions)
    puts = Puts(requests=load.messages, size=SIZE, concurrency=sessions)
    run(relay.port, Load(messages=2 * sessions, size=SIZE, sessions=sessions))  # what is done once is no cost
    relay.put(Puts(requests=2 * sessions, size=SIZE, concurrency=sessions))
    cpu, put_cpu, calls = [], [], Counter[str]()
    for _ in range(rounds):
        start = relay.usage()
        run(relay.port, load)
        between = relay.usage()
        relay.put(puts)
        end = relay.usage()
        cpu.append((between.cpu - start.cpu) / load.messages * 1000)
        put_cpu.append((end.cpu - between.cpu) / load.messages * 1000)
        calls += between.calls - start.calls
    return Figures(
        sessions=sessions,
        cpu=statistics.median(cpu),
        put_cpu=statistics.median(put_cpu),
        s3_calls=_calls(calls, "s3") / load.messages / rounds,
        sqs_calls=_calls(calls, "sqs") / load.messages / rounds,
    )


def _calls(calls: Counter[str], service: str) -> int:
    return sum(number for name, number in calls.items() if name.startswith(f"{service} "))


def report(figures: Sequence[Figures]) -> str:
    lines = [
        f"{'sessions':>8}  {'CPU ms':>7}  {'bare PUT':>8}  {'ratio':>5}  {'S3 calls':>8}  {'SQS calls':>9}"
    ]
    lines += [
        f"{one.sessions:8}  {one.cpu:7.3f}  {one.put_cpu:8.3f}  {one.of_a_put:5.2f}"
        f"  {one.s3_calls:8.2f}  {one.sqs_calls:9.3f}"
        for one in figures
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accept_path")
    parser.add_argument("--endpoint", help="of an S3 and SQS to be used instead of the canned one")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument(
        "--latency", action="store_true", help="the canned S3 takes 15 ms to answer, the canned SQS 6"
    )
    given = parser.parse_args()
    messages, rounds = (1000, 1) if given.quick else (MESSAGES, ROUNDS)
    manner = Manner(s3_latency=0.015, sqs_latency=0.006) if given.latency else Manner()
    python = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    sys.stdout.write(f"{python}; {SIZE} octets, reused connections, uvloop; per message:\n\n")
    figures = measure(given.endpoint, messages=messages, rounds=rounds, manner=manner)
    late = [miss for one in figures for miss in one.missed()]
    sys.stdout.write(f"{report(figures)}\n\ngoals: {'missed: ' + '; '.join(late) if late else 'held'}\n")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
