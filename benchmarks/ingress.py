"""CPU of the SMTP listener per message, side by side with aiosmtpd and with a floor, in one run.

    .venv/bin/python -m benchmarks.ingress [--quick]

Same clients, same null spool, listener and clients in processes of their own. Each figure is the median of
several rounds, in which the listeners take turns, so that a machine that is busy with other things
disturbs all of them alike; the ratios are what counts. The accept path with the AWS adapters follows
(`benchmarks.accept_path`). Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace

from benchmarks.listeners import KINDS, LOOPS, Listening, listening
from benchmarks.smtp_load import Load, run

GOAL = 0.25
"""At most this share of aiosmtpd's CPU, with uvloop."""

CASES = {
    "5 kB, a connection each": Load(messages=4000, size=5000, reuse=False),
    "5 kB, reused connections": Load(messages=8000, size=5000),
    "1 MB, reused connections": Load(messages=200, size=1_000_000),
}
PIPELINED = replace(CASES["5 kB, reused connections"], pipelined=True)
"""For Empath alone: aiosmtpd does not offer PIPELINING, and clients keep to that."""

ROUNDS = 5


Figures = dict[str, dict[str, float]]
"""Milliseconds of CPU per message, by case and kind of listener."""


def measure(loop: str, cases: dict[str, Load], rounds: int) -> Figures:
    found: dict[str, dict[str, list[float]]] = {case: {kind: [] for kind in KINDS} for case in cases}
    with ExitStack() as stack:
        listeners = {kind: stack.enter_context(listening(kind, loop)) for kind in KINDS}
        for listener in listeners.values():
            for load in cases.values():
                run(listener.port, replace(load, messages=2 * load.sessions))  # what is done once is no cost
        for _ in range(rounds):
            for case, load in cases.items():
                for kind, listener in listeners.items():
                    found[case][kind].append(_cpu(listener, load) / load.messages * 1000)
    return {
        case: {kind: statistics.median(values) for kind, values in kinds.items()}
        for case, kinds in found.items()
    }


def _cpu(listener: Listening, load: Load) -> float:
    before = listener.usage().cpu
    run(listener.port, load)
    return listener.usage().cpu - before


def pipelined(load: Load, rounds: int) -> float:
    """Empath's milliseconds of CPU per message when its clients use PIPELINING, with uvloop."""
    with listening("empath", "uvloop") as listener:
        return statistics.median(_cpu(listener, load) for _ in range(rounds)) / load.messages * 1000


def report(loop: str, figures: Figures) -> str:
    lines = [
        f"{loop + ': CPU ms per message':32}" + "".join(f"{kind:>10}" for kind in KINDS) + "  of aiosmtpd"
    ]
    for case, by_kind in figures.items():
        ratio = by_kind["empath"] / by_kind["aiosmtpd"]
        columns = "".join(f"{value:10.3f}" for value in by_kind.values())
        lines.append(f"{case:32}{columns}{ratio:11.1%}")
    return "\n".join(lines)


def missed(figures: Figures) -> list[str]:
    """The cases that cost more than the goal allows."""
    return [case for case, kinds in figures.items() if kinds["empath"] > GOAL * kinds["aiosmtpd"]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingress")
    parser.add_argument("--quick", action="store_true", help="one short round with uvloop only")
    parser.add_argument("--sessions", type=int, default=20, help="at a time (default 20)")
    given = parser.parse_args()
    if given.sessions < 1:
        parser.error("--sessions must be 1 or more")
    share, rounds = (4, 1) if given.quick else (1, ROUNDS)

    def scaled(load: Load) -> Load:
        each = max(load.messages // share // given.sessions, 1)
        return replace(load, sessions=given.sessions, messages=each * given.sessions)

    python = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    sys.stdout.write(f"{python}; {given.sessions} sessions, one command at a time, null spool\n\n")
    late = []
    for loop in ("uvloop",) if given.quick else LOOPS:
        figures = measure(loop, {name: scaled(load) for name, load in CASES.items()}, rounds)
        sys.stdout.write(report(loop, figures) + "\n")
        if loop == "uvloop":
            late = missed(figures)
            sys.stdout.write(
                f"{'5 kB, reused and pipelined':32}{pipelined(scaled(PIPELINED), rounds):10.3f}\n"
            )
        sys.stdout.write("\n")
    verdict = "missed: " + "; ".join(late) if late else "held"
    sys.stdout.write(f"goal, at most {GOAL:.0%} of aiosmtpd's CPU with uvloop: {verdict}\n")
    is_late = _accept_path(quick=given.quick) != 0
    return 1 if late or is_late else 0


def _accept_path(*, quick: bool) -> int:
    command = [sys.executable, "-m", "benchmarks.accept_path", *(["--quick"] if quick else [])]
    sys.stdout.write("\nThe accept path with the AWS adapters: ")
    sys.stdout.flush()
    return subprocess.run(command, check=False).returncode  # noqa: S603 (a benchmark of ours)


if __name__ == "__main__":
    sys.exit(main())
