"""Gates at full size, in memory and by a clock held in the hand: eight workers, the real stages, next
hops that are scripts.

    .venv/bin/python -m benchmarks.gates [dead | rate | priority] [--workers N]

    dead      10,000 messages for a site whose every connection times out after 30 s, and 1000 for another one
    rate      1000 messages for a site limited to 10/s
    priority  10,000 bulk messages for a site limited to 10/s, and a password reset every 2 s

Times are simulated, so they are the same on every machine; `benchmarks.sites` measures real queues and
sockets. Exit code 1 when a goal was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from empath.domain.delivery_state import State
from empath.domain.envelope import Priority
from empath.domain.errors import TransientRefusal
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.pipeline.accept import Additions
from empath.ports import QueueName
from empath.testing.clock import START, ManualClock
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.relay import MemoryRelay
from empath.testing.zones import Node
from tests.scenarios.fleet import POLL, Fleet, TimedDialer
from tests.scenarios.gated import LOCAL, S, most_in_any

DEAD, GOOD, RESETS = "dead.test", "good.test", "resets.test"
POLLS = 0.5
TIMED_OUT = TransientRefusal(Reply.of(451, "4.4.1", "Connection timed out"), Reason.TIMEOUT)


class Bench:
    def __init__(self, workers: int, **policy: Any) -> None:
        self.workers, self.clock = workers, ManualClock()
        self.dialer = TimedDialer(self.clock)
        # The same exchanger, so the same site.
        resolver = ZoneResolver({RESETS: Node(mx=[(10, GOOD)]), "*": Node(a=["127.0.0.1"])})
        self.relay = MemoryRelay(clock=self.clock, dialer=self.dialer, resolver=resolver)
        self.relay.control.items["*"] = {**LOCAL, **policy}
        self.is_met = True

    async def submit(self, count: int, domain: str, priority: Priority = "normal") -> None:
        for number in range(count):
            await self.relay.submit(
                "ann@a.test", [f"user{number}@{domain}"], additions=Additions(priority=priority)
            )
            if number % 10 == 9 or number == count - 1:
                await self.relay.work(QueueName.ACCEPTED)
        while await self.relay.work(QueueName.ACCEPTED):
            pass

    async def thousand_after(self, seconds: float) -> float:
        """A thousand messages for the good site then; how long it takes until the last is tried."""
        await self.clock.sleep(seconds)
        before, begun = len(self.dialer.tried.get(GOOD, ())), self.clock.now()
        await self.submit(1000, GOOD)
        while len(self.dialer.tried.get(GOOD, ())) < before + 1000:
            await self.clock.sleep(0.05)
        return (max(self.dialer.tried[GOOD]) - begun).total_seconds()

    def sent(self, domain: str) -> list[float]:
        """How many seconds after its receipt the last attempt at each message that was sent began."""
        return [
            (record.attempts[-1].started - record.received_at).total_seconds()
            for record in self.relay.ledger.all_deliveries()
            if record.domain == domain and record.status is State.SENT
        ]

    def tell(self, what: str, figure: object) -> None:
        sys.stdout.write(f"{what:<64} {figure}\n")

    def goal(self, what: str, figure: float, most: float) -> None:
        self.is_met = self.is_met and figure <= most
        self.tell(what, f"{figure:g} (goal: at most {most:g}{'' if figure <= most else ', MISSED'})")


async def dead(workers: int) -> bool:
    alone = Bench(workers)
    alone.dialer.takes[GOOD] = 0.05
    pace = asyncio.create_task(alone.thousand_after(10))
    await Fleet(alone.relay, workers, polls=POLLS).run(pace.done)

    bench = Bench(workers)
    bench.dialer.takes |= {GOOD: 0.05, DEAD: 30.0}
    bench.dialer.host(DEAD).refusal = TIMED_OUT
    await bench.submit(10_000, DEAD)
    await bench.submit(1000, GOOD)
    beside = asyncio.create_task(bench.thousand_after(900))
    await Fleet(bench.relay, workers, polls=POLLS).run(lambda: bench.clock.now() - START > 1800 * S)
    tried = bench.dialer.tried
    opened = bench.relay.gates.known[DEAD].opened_at or START
    behind = (sorted(tried[GOOD])[999] - START).total_seconds()
    bench.tell("1000 messages of a good site, alone: the last began after, s", f"{pace.result():.2f}")
    bench.tell("the same behind 10,000 for the dead one, s", f"{behind:.2f}")
    bench.tell("the same while those wait, s", f"{beside.result():.2f}")
    bench.goal("  ratio to alone", round(beside.result() / pace.result(), 2), 1.2)
    first = [at for at in tried[DEAD] if at <= opened]
    bench.goal("attempts at the dead site until its circuit opened", len(first), workers)
    later = [at for at in tried[DEAD] if at > opened]
    bench.goal("most in any 300 s after that", most_in_any(later, timedelta(seconds=300)), 1)
    bench.tell("attempts in half an hour", len(tried[DEAD]))
    bench.tell("writes about the circuit", bench.relay.gates.updates["circuit"])
    return bench.is_met


async def rate(workers: int) -> bool:
    bench = Bench(workers, rate="10/s")
    await bench.submit(1000, GOOD)
    fleet = Fleet(bench.relay, workers)
    await fleet.run(lambda: len(bench.sent(GOOD)) == 1000, within=timedelta(hours=1))
    times = bench.dialer.tried[GOOD]
    bench.goal("most messages in any second", most_in_any(times, S), 11)
    bench.goal("seconds for 1000 (ideal: 99.9)", (max(times) - START).total_seconds(), 105)
    bench.goal("updates a message", bench.relay.gates.updates.total() / 1000, 1.2)
    bench.goal("most often that a job was received", max(fleet.received.values()), 2)
    return bench.is_met


async def priority(workers: int) -> bool:
    bench = Bench(workers, rate="10/s")
    await bench.submit(10_000, GOOD, "bulk")

    async def users() -> None:
        for _ in range(400):
            await bench.clock.sleep(2)
            await bench.submit(1, RESETS, "high")

    asking = asyncio.create_task(users())
    lanes = ((QueueName.DELIVERY_HIGH,), (QueueName.DELIVERY_BULK,))
    fleet = Fleet(bench.relay, workers, lanes, polls=POLL)
    await fleet.run(lambda: len(bench.dialer.tried.get(GOOD, ())) == 10_400, within=timedelta(hours=1))
    await asking
    times, resets = bench.dialer.tried[GOOD], bench.sent(RESETS)
    bench.goal("longest that a reset waited, s", round(max(resets), 2), POLL + 2.5 + 0.1)
    bench.goal("most messages in any second", most_in_any(times, S), 11)
    bench.goal("seconds for all 10,400 (ideal: 1040)", (max(times) - START).total_seconds(), 1092)
    bench.goal("updates a message", bench.relay.gates.updates.total() / 10_400, 1.2)
    bench.tell("most often that a job was received", max(fleet.received.values()))
    return bench.is_met


PARTS: dict[str, Callable[[int], Any]] = {"dead": dead, "rate": rate, "priority": priority}


def main(arguments: Sequence[str] | None = None) -> int:
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    parser.add_argument("part", choices=[*PARTS, "all"], nargs="?", default="all")
    parser.add_argument("--workers", type=int, default=8)
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    chosen = PARTS if given.part == "all" else [given.part]
    are_met = [asyncio.run(PARTS[part](given.workers)) for part in chosen]
    return 0 if all(are_met) else 1


if __name__ == "__main__":
    sys.exit(main())
