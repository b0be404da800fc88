"""A site's rate, kept by concurrent workers: DESIGN section 4, gates."""

from __future__ import annotations

import argparse
import time

from benchmarks.next_hops import NextHop, NextHops
from benchmarks.sites_report import Report, conserved, most_in_any, receives, words_of
from benchmarks.stack import Relay, percentile, wait_until
from empath.ports import QueueName

DOMAIN, ADDRESS = "limited.bench.test", "127.0.0.11"
BURST = 1


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=1000, help="(default 1000)")
    parser.add_argument("--rate", type=int, default=10, help="messages a second (default 10)")


def measure(relay: Relay, given: argparse.Namespace) -> Report:
    report = Report()
    ideal = (given.messages - BURST) / given.rate
    with NextHops.serving([NextHop(ADDRESS)], relay.running.endpoint_url) as hops:
        relay.use_endpoint("deliver", hops.proxy)
        relay.direct(DOMAIN, ADDRESS, port=hops.ports[ADDRESS], rate=f"{given.rate}/s")
        begun = time.time()
        accepted = relay.load(DOMAIN, given.messages)
        accepted_at = time.time()
        wait_until(lambda: len(hops.seen(ADDRESS).messages) >= given.messages, ideal * 2 + 120)
        ids = [one.message_id for one in accepted]
        records = relay.settled(ids, time.time() + 60)
        seen, calls = hops.seen(ADDRESS), hops.calls()
    times = [at for at, _ in seen.messages]
    took = max(times) - min(times)
    report.tell("batches of the queue in work at a time", relay.concurrency(QueueName.DELIVERY))
    report.tell("messages accepted in", f"{accepted_at - begun:.1f} s")
    conserved(report, [one.recipient for one in accepted], [to for _, to in seen.messages])
    for window in (1, 2, 10):
        limit = given.rate * window + BURST
        report.goal(f"most messages in any {window} s, at the sink", most_in_any(times, window), limit)
    begun_at = [attempt.started.timestamp() for record in records for attempt in record.attempts]
    report.tell("most attempts begun in any 1 s, by the ledger", most_in_any(begun_at, 1))
    began = {to: record.attempts[-1].started.timestamp() for record in records for to in record.recipients}
    lags = [at - began[to] for at, to in seen.messages]
    shown = " ".join(f"{percentile(lags, share):.2f}" for share in (0.5, 0.95, 1))
    report.tell("from an attempt's beginning to the sink: p50, p95, most", f"{shown} s")
    report.tell("first to last message, ideal", f"{took:.1f} s, {ideal:.1f} s")
    report.goal("against the ideal", took / ideal, 1.05, show=lambda x: f"{x:.3f}")
    report.tell("first connect to last message", f"{max(times) - begun:.1f} s")
    gating = sum(
        number
        for name, number in calls.items()
        if any(write in name for write in ("UpdateItem", "PutItem", "DeleteItem"))
        and not name.endswith(("delivery", "dns"))
    )
    # Claim and record are the attempt's own; whatever else is written to the delivery is for a gate.
    attempts = sum(len(record.attempts) for record in records)
    more = calls["DynamoDB UpdateItem delivery"] - 2 * attempts
    report.tell("writes for gates: control table, ledger", f"{gating}, {more}")
    report.goal("writes for gates a message", (gating + more) / len(ids), 1.2, show=lambda x: f"{x:.2f}")
    report.goal("most receipts of one job", max(receives(relay, ids).values()), 2)
    report.tell("attempts", attempts)
    for words, number in words_of(relay, ids).most_common():
        report.tell(f"  {words}", number)
    for name, number in sorted(calls.items()):
        report.tell(f"  {name}", number)
    report.goal("jobs in dead-letter queues", sum(relay.jobs(dead=True).values()), 0)
    return report
