"""A site that takes long over each message, with much mail for it, and another site's mail beside it."""

from __future__ import annotations

import argparse
import time

from benchmarks.next_hops import NextHop, NextHops
from benchmarks.sites_report import Report, conserved, most_in_any, receives, states, words_of
from benchmarks.stack import Accepted, Relay, percentile, sent_at
from empath.ports import QueueName

SLOW, SLOW_ADDRESS = "slow.bench.test", "127.0.0.14"
OTHER, OTHER_ADDRESS = "other.bench.test", "127.0.0.15"
BUSY, BUSY_ADDRESS = "busy.bench.test", "127.0.0.16"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=1000, help="for the slow site (default 1000)")
    parser.add_argument("--takes", type=float, default=30.0, help="seconds of each (default 30)")
    parser.add_argument("--beside", type=int, default=300, help="for the other site, each time (default 300)")
    parser.add_argument("--pace", type=float, default=5.0, help="of the latter, a second (default 5)")
    parser.add_argument(
        "--rounds", type=int, default=2, help="with the slow site at work and at rest (default 2)"
    )
    parser.add_argument("--drain", type=int, default=0, help="seconds to wait for the slow site's mail")


def measure(relay: Relay, given: argparse.Namespace) -> Report:
    report = Report()
    wanted = [NextHop(SLOW_ADDRESS, "slow", given.takes), NextHop(OTHER_ADDRESS), NextHop(BUSY_ADDRESS)]
    with NextHops.serving(wanted, relay.running.endpoint_url) as hops:
        relay.direct(SLOW, SLOW_ADDRESS, port=hops.ports[SLOW_ADDRESS])
        relay.direct(BUSY, BUSY_ADDRESS, port=hops.ports[BUSY_ADDRESS])
        relay.direct(OTHER, OTHER_ADDRESS, port=hops.ports[OTHER_ADDRESS])

        def other() -> list[float]:
            return _waits(relay, relay.load(OTHER, given.beside, rate=given.pace))

        _waits(relay, relay.load(OTHER, 500))
        _waits(relay, relay.load(BUSY, 500))
        alone = other()
        _tell(report, "alone", alone)

        busy = relay.load(BUSY, given.messages)
        beside_busy = other()
        _waits(relay, busy)
        _tell(report, "with as many for a quick site", beside_busy)

        begun = time.time()
        slow = relay.load(SLOW, given.messages)
        beside = other()
        _tell(report, "with those for the slow site", beside)
        _tell_ratio(report, "of these two", beside, beside_busy)

        at_rest: list[float] = []
        at_work: list[float] = []
        for _ in range(given.rounds):
            at_work += other()
            relay.switch(QueueName.DELIVERY_SLOW, on=False)
            time.sleep(given.takes)  # what was begun still ends
            at_rest += other()
            relay.switch(QueueName.DELIVERY_SLOW, on=True)
        _tell(report, "slow site's queue at rest", at_rest)
        _tell(report, "slow site's queue at work", at_work)
        _tell_ratio(report, "of these two", at_work, at_rest)
        ids = [one.message_id for one in slow]
        if given.drain:
            relay.settled(ids, time.time() + given.drain)
        seen = hops.seen(SLOW_ADDRESS)
        report.tell("slow site's mail watched for", f"{time.time() - begun:.1f} s")
        conserved(report, [one.recipient for one in slow], [to for _, to in seen.messages])
        report.tell(
            "most at a time at the slow site", most_in_any([at for at, _ in seen.messages], given.takes)
        )
        report.tell("connections to the slow site", len(seen.connections))
        records = relay.deliveries(ids)
        report.tell("states of the slow site's mail", states(records))
        counts = receives(relay, ids)
        report.tell("receipts of its jobs: most, mean", _most_and_mean(list(counts.values())))
        for words, number in words_of(relay, ids).most_common():
            report.tell(f"  {words}", number)
        report.tell("jobs on queues", relay.jobs())
        report.goal("jobs in dead-letter queues", sum(relay.jobs(dead=True).values()), 0)
    return report


def _tell_ratio(report: Report, what: str, beside: list[float], alone: list[float]) -> None:
    ratio = percentile(beside, 0.95) / percentile(alone, 0.95)
    report.goal(f"p95, ratio {what}", ratio, 2, show=lambda x: f"{x:.2f}")


def _waits(relay: Relay, accepted: list[Accepted]) -> list[float]:
    """Seconds from acceptance to the reply of the next hop, of each."""
    records = relay.settled([one.message_id for one in accepted], time.time() + 300)
    if not all(record.is_final and record.attempts for record in records):
        raise SystemExit("mail of the other site was not sent in time")
    return [sent_at(record) - record.received_at.timestamp() for record in records]


def _tell(report: Report, what: str, waits: list[float]) -> None:
    shown = " ".join(f"{percentile(waits, share):6.2f}" for share in (0.5, 0.9, 0.95, 0.99))
    report.tell(f"other site, {what}: p50 p90 p95 p99", f"{shown} s")


def _most_and_mean(counts: list[int]) -> str:
    return f"{max(counts)}, {sum(counts) / len(counts):.2f}" if counts else "none"
