"""A site that is down, with much mail for it, and another site's mail beside it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.filling import fill
from benchmarks.next_hops import NextHop, NextHops
from benchmarks.sites_report import Report, most_in_any, states, words_of
from benchmarks.stack import Relay, sent_at, wait_until
from benchmarks.stack_cpu import cpu_of
from empath.domain.records import DeliveryRecord
from empath.ports import QueueName

DEAD, DEAD_ADDRESS = "dead.bench.test", "127.0.0.12"
HEALTHY_ADDRESS = "127.0.0.13"
GOAL_ATTEMPTS = 10


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=10_000, help="for the dead site (default 10000)")
    parser.add_argument("--beside", type=int, default=500, help="for the healthy one (default 500)")
    parser.add_argument("--ways", choices=("drop", "stall", "refuse"), default="drop")
    parser.add_argument("--open-for", type=int, default=300, help="seconds of an open period (default 300)")
    parser.add_argument("--watch", type=int, default=330, help="seconds to count attempts (default 330)")


def measure(relay: Relay, given: argparse.Namespace) -> Report:
    report = Report()
    hops_wanted = [NextHop(DEAD_ADDRESS, given.ways), NextHop(HEALTHY_ADDRESS)]
    with NextHops.serving(hops_wanted, relay.running.endpoint_url) as hops:
        relay.direct(DEAD, DEAD_ADDRESS, port=hops.ports[DEAD_ADDRESS], circuit={"open_for": given.open_for})
        for name in ("warm", "alone", "sweep", "beside", "again"):
            relay.direct(f"{name}.bench.test", HEALTHY_ADDRESS, port=hops.ports[HEALTHY_ADDRESS])

        _paced(relay, "warm.bench.test", given.beside)
        alone = _paced(relay, "alone.bench.test", given.beside)
        report.tell(f"{given.beside} messages of a healthy site, alone", alone)

        relay.switch(QueueName.DELIVERY, on=False)
        begun = time.time()
        ids = fill(relay, DEAD, given.messages)
        report.tell(f"{len(ids)} messages for the dead site, put there in", f"{time.time() - begun:.1f} s")
        relay.switch(QueueName.DELIVERY, on=True)
        started = time.time()
        sweep = _paced(relay, "sweep.bench.test", given.beside)
        report.tell("healthy, behind them in the same queue", sweep)
        _until_looked_at(relay)
        report.tell("all of them looked at after", f"{time.time() - started:.1f} s")
        beside = _paced(relay, "beside.bench.test", given.beside)
        report.tell("healthy, while they wait", beside)
        again = _paced(relay, "again.bench.test", given.beside)
        report.tell("healthy, while they wait, once more", again)
        best = min(beside.seconds, again.seconds) / alone.seconds
        report.goal("healthy beside the dead site, ratio of times", best, 1.2, show=lambda x: f"{x:.2f}")
        best = min(beside.cpu, again.cpu) / alone.cpu
        report.goal("healthy beside the dead site, ratio of CPU", best, 1.2, show=lambda x: f"{x:.2f}")
        time.sleep(max(0.0, started + given.watch - time.time()))
        if given.ways != "refuse":
            _tell_attempts(report, "connections", hops.seen(DEAD_ADDRESS).connections, given)
    records = relay.deliveries(ids)
    _tell_attempts(report, "attempts", [at for one in records for at in _attempts_of(one)], given)
    report.tell("states of the dead site's mail", states(records))
    report.tell("jobs on queues", relay.jobs())
    for words, number in words_of(relay, ids).most_common():
        report.tell(f"  {words}", number)
    report.goal("jobs in dead-letter queues", sum(relay.jobs(dead=True).values()), 0)
    return report


def _attempts_of(record: DeliveryRecord) -> list[float]:
    return [attempt.started.timestamp() for attempt in record.attempts]


def _tell_attempts(report: Report, what: str, times: Sequence[float], given: argparse.Namespace) -> None:
    if not times:
        report.tell(f"{what} at the dead site", 0)
        return
    first = min(times)
    by_period: dict[int, int] = {}
    for at in times:
        period = int((at - first) // given.open_for)
        by_period[period] = by_period.get(period, 0) + 1
    shown = ", ".join(f"{number}" for _, number in sorted(by_period.items()))
    report.tell(f"{what} at the dead site, by periods of {given.open_for} s", shown)
    report.goal(f"  most in any {given.open_for} s", most_in_any(times, given.open_for), GOAL_ATTEMPTS)


@dataclass(frozen=True, slots=True)
class Pace:
    seconds: float
    """From the first connect until the last of the messages was sent."""
    cpu: float
    """Milliseconds of the whole stack for a message: other users of the machine hardly change them."""

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.cpu:.1f} ms of CPU a message"


def _paced(relay: Relay, domain: str, count: int) -> Pace:
    """Hand in so many messages as fast as they are taken."""
    begun, cpu = time.time(), cpu_of(relay.running.pid)
    accepted = relay.load(domain, count)
    records = relay.settled([one.message_id for one in accepted], time.time() + 600)
    if not all(record.is_final and record.attempts for record in records):
        raise SystemExit(f"mail for {domain} was not sent in time")
    used = cpu_of(relay.running.pid) - cpu
    return Pace(max(map(sent_at, records)) - begun, used / count * 1000)


def _until_looked_at(relay: Relay) -> None:
    url = relay.target.queue_urls()[QueueName.DELIVERY, False]
    sqs = relay.client("sqs")

    def is_empty() -> bool:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(map(int, attributes.values())) == 0

    wait_until(is_empty, 600)
