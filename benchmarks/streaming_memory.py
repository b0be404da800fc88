"""Memory of the ingress while many sessions stream large messages at once: real listener, real S3 spool.

    .venv/bin/python -m benchmarks.streaming_memory [--sessions N] [--size OCTETS] [--stall SECONDS] [--tls]

The worst case by default: every part that is sent to the canned S3 stands still for a while, so that all
sessions hold a whole part at the same time. The peak is counted by the system (VmHWM), so on Linux only.
Exit code 1 when it is beyond the goal.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.canned_aws import Manner, answering
from benchmarks.relay_process import relaying
from benchmarks.smtp_load import Load, run

SESSIONS = 100
SIZE = 25_000_000
STALL = 3.0
MOST = 1_000_000_000
"""Octets resident, for 100 sessions that stream 25 MB each."""


@dataclass(frozen=True, slots=True)
class Figures:
    idle: int
    """Octets resident at most before there was any load."""
    peak: int
    cpu: float
    """Seconds."""
    elapsed: float
    """Seconds."""


def measure(sessions: int, size: int, *, stall: float, tls: bool) -> Figures:
    """One message of `size` octets in each of `sessions` at once; S3 stalls each part, and speaks TLS."""
    with ExitStack() as stack:
        certificate = _certificate(Path(stack.enter_context(tempfile.TemporaryDirectory()))) if tls else None
        endpoint = stack.enter_context(answering(Manner(stall=stall, certificate=certificate)))
        relay = stack.enter_context(relaying(endpoint, certificate))
        before, start = relay.usage(), time.monotonic()
        run(relay.port, Load(messages=sessions, size=size, sessions=sessions))
        after = relay.usage()
        return Figures(before.peak, after.peak, after.cpu - before.cpu, time.monotonic() - start)


def _certificate(folder: Path) -> Path:
    from empath.testing.certificates import self_signed

    path = folder / "endpoint.pem"
    path.write_bytes(b"".join(self_signed("127.0.0.1")))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming_memory")
    parser.add_argument("--sessions", type=int, default=SESSIONS, help=f"at once (default {SESSIONS})")
    parser.add_argument("--size", type=int, default=SIZE, help=f"octets of each message (default {SIZE})")
    parser.add_argument("--stall", type=float, default=STALL, help=f"seconds per part (default {STALL})")
    parser.add_argument("--tls", action="store_true", help="S3 speaks TLS, as it does in AWS")
    given = parser.parse_args()
    if given.sessions < 1 or given.size < 1 or given.stall < 0:
        parser.error("--sessions and --size must be 1 or more, --stall 0 or more")
    figures = measure(given.sessions, given.size, stall=given.stall, tls=given.tls)
    extra = (figures.peak - figures.idle) / given.sessions
    sys.stdout.write(
        f"{given.sessions} sessions, {given.size / 1e6:.0f} MB each{', TLS to S3' if given.tls else ''}\n"
        f"resident at most  {figures.peak / 1e6:8.0f} MB (goal {MOST / 1e6:.0f})\n"
        f"  before the load {figures.idle / 1e6:8.0f} MB\n"
        f"  per session     {extra / 1e6:8.2f} MB\n"
        f"CPU per megabyte  {figures.cpu / (given.sessions * given.size / 1e9):8.2f} ms\n"
        f"elapsed           {figures.elapsed:8.1f} s\n"
    )
    return 1 if figures.peak > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
