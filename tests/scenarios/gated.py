"""What scenarios of gates have in common: a relay, its policies, mail for it, and how close attempts were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from empath.domain.delivery_state import FINAL
from empath.domain.envelope import Priority
from empath.domain.records import DeliveryRecord
from empath.pipeline.accept import Additions
from empath.ports import QueueName
from empath.testing.clock import ManualClock
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.relay import MemoryRelay
from empath.testing.zones import Node
from tests.scenarios.fleet import TimedDialer

S = timedelta(seconds=1)
LOCAL = {"allow_addresses": ["127.0.0.0/8"]}


def gated_relay(clock: ManualClock, dialer: TimedDialer) -> MemoryRelay:
    """Three domains share a site; any other is its own."""
    zones = {name: Node(mx=[(10, "mx.host.test")]) for name in ("one.test", "two.test", "three.test")}
    resolver = ZoneResolver({**zones, "*": Node(a=["127.0.0.1"])})
    return MemoryRelay(clock=clock, dialer=dialer, resolver=resolver)


def policy(relay: MemoryRelay, domain: str, **settings: Any) -> None:
    relay.control.items[domain] = {**LOCAL, **settings}


async def submit(
    relay: MemoryRelay, count: int, domain: str = "b.test", priority: Priority = "normal"
) -> list[str]:
    """So many messages, accepted and resolved."""
    additions = Additions(priority=priority)
    found = [
        await relay.submit("ann@a.test", [f"user{n}@{domain}"], additions=additions) for n in range(count)
    ]
    while await relay.work(QueueName.ACCEPTED):
        pass
    return found


def deliveries(relay: MemoryRelay, domain: str = "b.test") -> list[DeliveryRecord]:
    return [record for record in relay.ledger.all_deliveries() if record.domain == domain]


def all_final(relay: MemoryRelay) -> Callable[[], bool]:
    return lambda: all(record.status in FINAL for record in relay.ledger.all_deliveries())


def most_in_any(times: Sequence[datetime], window: timedelta) -> int:
    """The largest number of them in any time of this length."""
    ordered, first, most = sorted(times), 0, 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most
