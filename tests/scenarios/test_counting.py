"""Every recipient that has an outcome is counted, with its class of trouble, whichever stage it came from."""

from __future__ import annotations

from dataclasses import replace

from empath.domain.delivery_state import State
from empath.domain.reason import Reason
from empath.domain.suppression import Suppression
from empath.testing.memory_suppressions import MemorySuppressions
from empath.testing.relay import MemoryRelay


def outcomes(relay: MemoryRelay) -> dict[str, int]:
    kinds = ("sent", "deferred", "failed", "expired")
    return {name: count for name, count in relay.metrics.counts.items() if name.startswith(kinds)}


async def test_what_dns_refuses_when_it_is_resolved() -> None:
    relay = MemoryRelay()
    await relay.submit(None, ["a@nullmx.test", "b@nullmx.test", "c@good.test"])
    await relay.run()
    assert outcomes(relay) == {"failed": 2, "failed_domain": 2, "sent": 1}


async def test_one_of_a_delivery_who_is_on_the_suppression_list() -> None:
    relay = MemoryRelay()
    listed = MemorySuppressions()
    await listed.add(Suppression(address="gone@good.test", since=relay.clock.now(), origin="operator"))
    relay.resolution = replace(relay.resolution, suppressions=listed)
    await relay.submit(None, ["gone@good.test", "there@good.test"])
    await relay.run()
    assert outcomes(relay) == {"failed": 1, "failed_mailbox": 1, "sent": 1}


async def test_a_message_that_could_not_be_resolved_until_it_expired() -> None:
    relay = MemoryRelay()
    relay.faults.fail(
        "ledger.create",
        times=None,
        matching=lambda _, deliveries: any(record.status is State.QUEUED for record in deliveries),
    )
    await relay.submit(None, ["a@good.test"])
    await relay.run()
    assert outcomes(relay) == {"expired": 1, "expired_other": 1}


async def test_a_delivery_whose_worker_failed_at_every_try() -> None:
    relay = MemoryRelay()
    relay.faults.fail("ledger.claim", times=5)
    await relay.submit(None, ["a@good.test"])
    await relay.run()
    assert outcomes(relay) == {"deferred": 1, "deferred_other": 1, "sent": 1}


async def test_what_a_gate_held_back_until_it_expired() -> None:
    relay = MemoryRelay()
    await relay.control.set_policy("good.test", {"rate": "1/h", "retry": {"expiry": 7200}})
    for _ in range(8):
        await relay.submit(None, ["a@good.test"])
    await relay.run()
    counted = outcomes(relay)
    records = relay.ledger.all_deliveries()
    expired = [record for record in records if record.status is State.EXPIRED]
    assert {record.attempts[-1].reason for record in expired} <= {Reason.SLOT_RESERVED, Reason.RATE_LIMITED}
    assert len(expired) > 1
    assert counted == {"sent": 8 - len(expired), "expired": len(expired), "expired_rate": len(expired)}
