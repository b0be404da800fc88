"""Many messages through a running local stack: how fast they are accepted, and how soon they are sent.

    make run                                    in one terminal
    .venv/bin/python -m benchmarks.local_stack  in another

Times of the relay come from its ledger (`received_at` of a message, start and duration of the attempt that
sent it), times of the client from this process; all on one machine's clock. CPU time is read from /proc,
so it is there on Linux only.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.stack import Relay, percentile, sent_at
from benchmarks.stack_cpu import cpu_by_part
from empath.control.target import DEFAULT_STATE_DIR
from empath.domain.delivery_state import State

POLL = 0.25


def wait_for_arrival(folder: Path, count: int, give_up_at: float) -> None:
    """Until the inbox has filed `count` messages; looking there costs the relay nothing."""
    while time.time() < give_up_at:
        if folder.is_dir() and sum(1 for _ in folder.iterdir()) >= count:
            return
        time.sleep(POLL)


def options() -> argparse.Namespace:
    default_dir = os.environ.get("EMPATH_STATE_DIR", DEFAULT_STATE_DIR)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_stack")
    parser.add_argument("--count", type=int, default=1000, help="messages (default 1000)")
    parser.add_argument("--size", type=int, default=5000, help="octets of each (default 5000)")
    parser.add_argument("--sessions", type=int, default=10, help="SMTP connections at a time (default 10)")
    parser.add_argument("--rate", type=float, default=0, help="messages a minute (default: as fast as taken)")
    parser.add_argument("--within", type=float, default=300, help="seconds before giving up (default 300)")
    parser.add_argument("--state-dir", type=Path, default=default_dir)
    given = parser.parse_args()
    if min(given.count, given.size, given.sessions) < 1 or given.rate < 0:
        parser.error("--count, --size and --sessions must be 1 or more, --rate 0 or more")
    return given


def main() -> int:
    given = options()
    relay = Relay.found(Path(given.state_dir))
    domain = f"bench{int(time.time())}.test"
    has_proc = Path("/proc/self/stat").exists()
    cpu_before = cpu_by_part(relay.running.pid) if has_proc else {}
    own_before = time.process_time()

    begun = time.time()
    accepted = relay.load(domain, given.count, size=given.size, sessions=given.sessions, rate=given.rate / 60)
    accepted_at = time.time()
    wait_for_arrival(relay.state_dir / "inbox" / domain / "new", given.count, begun + given.within)
    own = time.process_time() - own_before
    cpu_after = cpu_by_part(relay.running.pid) if has_proc else {}
    records = relay.settled([one.message_id for one in accepted], begun + given.within)

    states = Counter(record.status for record in records)
    sent = [record for record in records if record.status is State.SENT]
    if not sent:
        raise SystemExit(f"nothing was sent within {given.within:.0f} s: {dict(states)}")
    whole = max(map(sent_at, sent)) - begun
    waits = [sent_at(record) - record.received_at.timestamp() for record in sent]
    cpu: dict[str, float] = defaultdict(float)
    for (part, pid), seconds in cpu_after.items():
        cpu[part] += seconds - cpu_before.get((part, pid), 0.0)
    cpu["this client"] = own

    lines = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, Python {sys.version.split()[0]}",
        f"{given.count} messages of {given.size} octets, {min(given.sessions, given.count)} sessions",
        "",
        f"accepted, all                {accepted_at - begun:8.2f} s",
        f"accepted, each (p50, p95)    {percentile([one.seconds for one in accepted], 0.5) * 1000:8.0f} ms"
        f" {percentile([one.seconds for one in accepted], 0.95) * 1000:8.0f} ms",
        f"first connect to last SENT   {whole:8.2f} s",
        f"messages a minute            {len(sent) / whole * 60:8.0f}",
        f"accept to SENT (p50, p95)    {percentile(waits, 0.5):8.2f} s  {percentile(waits, 0.95):8.2f} s",
        f"outcomes                     {', '.join(f'{state} {number}' for state, number in states.items())}",
        f"attempts                     {sum(len(record.attempts) for record in records)}",
    ]
    if has_proc:
        total = sum(cpu.values())
        lines += [
            "",
            f"CPU, all processes           {total:8.2f} s ({total / given.count * 1000:.1f} ms a message)",
        ]
        lines += [
            f"  {part:26} {seconds:8.2f} s {seconds / total:8.0%}"
            for part, seconds in sorted(cpu.items(), key=lambda item: -item[1])
        ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if len(sent) == given.count else 1


if __name__ == "__main__":
    sys.exit(main())
