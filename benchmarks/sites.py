"""What one site's mail does to the limits and to other sites' mail, on the local stack: real queues, event
source mappings, functions and sockets.

    .venv/bin/python -m benchmarks.sites rate   1000 jobs for a site limited to 10/s
    .venv/bin/python -m benchmarks.sites dead   10,000 messages for a site that is down, and mail beside them
    .venv/bin/python -m benchmarks.sites slow   1000 messages for a site of 30 s each, and mail beside them

Each starts a stack of its own (state below --state-dir, free ports) and stops it. Policies and DNS overrides
are written as an operator writes them; next hops are SMTP servers on loopback that note every connection and
message with its time (benchmarks/next_hops.py). Exit code 1 when a goal was missed. Absolute times depend on
the machine; ratios are of figures that were taken one right after the other.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import sites_dead, sites_rate, sites_slow
from benchmarks.sites_report import Report
from benchmarks.stack import Relay

Part = Callable[[Relay, argparse.Namespace], Report]
PARTS: dict[str, Part] = {"rate": sites_rate.measure, "dead": sites_dead.measure, "slow": sites_slow.measure}


def main(arguments: Sequence[str] | None = None) -> int:
    given = _options().parse_args(arguments)
    settings = {
        "deliver_timeout": given.timeout,
        "deliver_concurrency": given.workers,
        **dict(pair.split("=", 1) for pair in given.set),
    }
    with (
        tempfile.TemporaryDirectory(prefix="empath-sites-", dir=given.state_dir) as directory,
        Relay.started(Path(directory), settings) as relay,
    ):
        began = time.monotonic()
        report = PARTS[given.part](relay, given)
        machine = f"{os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), Python {sys.version.split()[0]}"
        took = f"{given.workers} workers; {time.monotonic() - began:.0f} s"
        head = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}; {took}"
        # Now: to stop, and to remove what the stack left, can take a minute.
        sys.stdout.write(f"{head}\n{report}")
        sys.stdout.flush()
    return 1 if report.missed else 0


def _options() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--workers", type=int, default=8, help="batches at a time (default 8)")
    common.add_argument("--timeout", type=int, default=120, help="seconds of an invocation (default 120)")
    common.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="more settings")
    common.add_argument("--state-dir", type=Path, default=None, help="where the stack's state goes (/tmp)")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sites")
    parts = parser.add_subparsers(dest="part", required=True)
    sites_rate.options(parts.add_parser("rate", parents=[common]))
    sites_dead.options(parts.add_parser("dead", parents=[common]))
    sites_slow.options(parts.add_parser("slow", parents=[common]))
    return parser


if __name__ == "__main__":
    sys.exit(main())
