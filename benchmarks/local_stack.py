"""Many messages through a running local stack: how fast they are accepted, and how soon they are sent.

    make run                                    in one terminal
    .venv/bin/python -m benchmarks.local_stack  in another

Times of the relay come from its ledger (`received_at` of a message, start and duration of the attempt that
sent it), times of the client from this process; all on one machine's clock. CPU time is read from /proc,
so it is there on Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import smtplib
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from empath.control.errors import ControlError
from empath.control.target import DEFAULT_STATE_DIR, find_local
from empath.domain.delivery_state import State
from empath.domain.records import DeliveryRecord
from empath.local.state import read_state

LINE = b"x" * 70 + b"\r\n"
QUEUED_AS = re.compile(rb"queued as (\S+)")
POLL = 0.25
READS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Accepted:
    message_id: str
    seconds: float
    """From MAIL to the 250 that takes the message."""


def content_of(size: int) -> bytes:
    """A message of `size` octets."""
    head = b"From: <bench@sender.test>\r\nTo: <user@bench.test>\r\nSubject: benchmark\r\n\r\n"
    body = LINE * (size // len(LINE) + 1)
    return head + body[: max(size - len(head) - 2, 0)] + b"\r\n"


def submit(server: str, count: int, content: bytes, domain: str, pause: float) -> list[Accepted]:
    """Send `count` messages over one connection, one each `pause` seconds (0: as fast as they are taken)."""
    host, _, port = server.rpartition(":")
    accepted = []
    with smtplib.SMTP(host, int(port), timeout=60) as client:
        client.ehlo()
        start = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, start + number * pause - time.monotonic()))
            begun = time.perf_counter()
            client.mail("bench@sender.test", [f"SIZE={len(content)}"])
            client.rcpt(f"user{number}@{domain}")
            code, words = client.data(content)
            found = QUEUED_AS.search(words)
            if code != 250 or found is None:
                raise SystemExit(f"not accepted: {code} {words.decode(errors='replace')}")
            accepted.append(Accepted(found[1].decode(), time.perf_counter() - begun))
    return accepted


def wait_for_arrival(folder: Path, count: int, give_up_at: float) -> None:
    """Until the inbox has filed `count` messages; looking there costs the relay nothing."""
    while time.time() < give_up_at:
        if folder.is_dir() and sum(1 for _ in folder.iterdir()) >= count:
            return
        time.sleep(POLL)


async def deliveries_of(state_dir: Path, message_ids: Sequence[str]) -> list[DeliveryRecord]:
    """The only delivery of every message, out of the ledger."""
    target = find_local(state_dir)
    if target is None:
        raise SystemExit(f"the local stack of {state_dir} is gone")
    limit = asyncio.Semaphore(READS_AT_ONCE)
    async with target.ledger() as ledger:

        async def one(message_id: str) -> Sequence[DeliveryRecord]:
            async with limit:
                return await ledger.deliveries(message_id)

        found = await asyncio.gather(*map(one, message_ids))
    return [record for records in found for record in records]


def sent_at(record: DeliveryRecord) -> float:
    """When the next hop had the message, in epoch seconds."""
    last = record.attempts[-1]
    return last.started.timestamp() + (last.duration or 0)


def settled(state_dir: Path, message_ids: Sequence[str], give_up_at: float) -> list[DeliveryRecord]:
    """Every delivery once all are final, or as they are when time is up."""
    while True:
        records = asyncio.run(deliveries_of(state_dir, message_ids))
        if len(records) == len(message_ids) and all(record.is_final for record in records):
            return records
        if time.time() >= give_up_at:
            return records
        time.sleep(1)


def cpu_by_part(stack: int) -> dict[tuple[str, int], float]:
    """CPU seconds so far of the stack's process and all its descendants, by part and process id."""
    processes = dict(_processes())
    found: dict[tuple[str, int], float] = {}
    for pid, (parent, seconds) in processes.items():
        line = pid
        while line not in (stack, 0) and line in processes:
            line = processes[line][0]
        if line == stack:
            found[_part(pid, parent, stack), pid] = seconds
    return found


def _processes() -> Iterator[tuple[int, tuple[int, float]]]:
    tick = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        yield int(entry.name), (int(fields[1]), (int(fields[11]) + int(fields[12])) / tick)


def _part(pid: int, parent: int, stack: int) -> str:
    if pid == stack:
        return "inbox and DNS"
    try:
        command = (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        command = b""
    if b"functions.ingress" in command:
        return "ingress"
    return "embedded AWS" if parent == stack else "functions"


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


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
    state_dir = Path(given.state_dir)
    try:
        target = find_local(state_dir)
    except ControlError as error:
        raise SystemExit(str(error)) from None
    running = read_state(state_dir)
    if target is None or running is None or target.smtp is None:
        raise SystemExit(f"no local stack runs in {state_dir}: start it with `make run`")

    content = content_of(given.size)
    domain = f"bench{int(time.time())}.test"
    sessions = min(given.sessions, given.count)
    shares = [given.count // sessions + (number < given.count % sessions) for number in range(sessions)]
    pause = sessions * 60 / given.rate if given.rate else 0.0
    has_proc = Path("/proc/self/stat").exists()
    cpu_before = cpu_by_part(running.pid) if has_proc else {}
    own_before = time.process_time()

    begun = time.time()
    with ThreadPoolExecutor(sessions) as threads:
        runs = [threads.submit(submit, target.smtp, share, content, domain, pause) for share in shares]
        accepted = [one for run in runs for one in run.result()]
    accepted_at = time.time()
    wait_for_arrival(state_dir / "inbox" / domain / "new", given.count, begun + given.within)
    own = time.process_time() - own_before
    cpu_after = cpu_by_part(running.pid) if has_proc else {}
    records = settled(state_dir, [one.message_id for one in accepted], begun + given.within)

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
        f"{given.count} messages of {len(content)} octets, {sessions} sessions",
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
