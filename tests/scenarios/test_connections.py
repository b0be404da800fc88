"""Connections and TLS as deliveries have them: from policy to the sink, and what the ledger keeps of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from empath.domain.delivery_state import State
from empath.domain.reason import Reason
from empath.domain.records import Attempt
from empath.domain.tls import TlsSession
from empath.net.dialer import SmtpDialer
from empath.net.pool import MAX_IDLE, ConnectionPool
from empath.pipeline.gates import Gatekeeper
from empath.testing.certificates import server_context
from empath.testing.clock import ManualClock
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.metrics import CountedMetrics
from empath.testing.relay import HOSTNAME, MemoryRelay
from empath.testing.smtp_sink import Act, Session, SmtpSink
from empath.testing.zones import Node, Zones

SENDER = "ann@sender.test"
SHARED: Zones = {
    "a.test": Node(mx=[(10, "mx.shared.test")]),
    "b.test": Node(mx=[(10, "mx.shared.test")]),
    "mx.shared.test": Node(a=["127.0.0.1"]),
    "*": Node(a=["127.0.0.1"]),
}


class Counting(SmtpSink):
    """Knows how many sessions are open, and how many there were at most."""

    open = most = 0

    async def act(self, stage: str, argument: str, session: Session) -> Act | None:
        self.open += {"connect": 1, "QUIT": -1}.get(stage, 0)
        self.most = max(self.most, self.open)
        return await super().act(stage, argument, session)


class PooledRelay(MemoryRelay):
    """A relay over sockets whose deliver function has a pool, which its gates know of, as in `bootstrap`."""

    def __init__(self, sink: SmtpSink, **policy: Any) -> None:
        clock, metrics = ManualClock(auto=True), CountedMetrics()
        self.pool = ConnectionPool(SmtpDialer(HOSTNAME, metrics=metrics), clock, metrics)
        super().__init__(clock=clock, metrics=metrics, dialer=self.pool, resolver=ZoneResolver(SHARED))
        self.control.items["*"] = {"allow_addresses": ["127.0.0.0/8"], "port": sink.port, **policy}

    def gatekeeper(self) -> Gatekeeper:
        return Gatekeeper(self.gates, self.clock, self.ids, self.metrics, self.pool.close_idle)

    def last_attempt(self) -> Attempt:
        return self.ledger.all_deliveries()[-1].attempts[-1]


@pytest.fixture
async def sink() -> AsyncIterator[Counting]:
    async with Counting(tls=server_context("mx.shared.test")) as sink:
        yield sink


async def test_mail_to_all_domains_of_a_site_goes_on_the_same_connections(sink: Counting) -> None:
    relay = PooledRelay(sink)
    for number in range(6):  # invocations
        for domain in ("a.test", "b.test"):
            await relay.submit(SENDER, [f"bob{number}@{domain}"])
        await relay.run()
    assert len(sink.accepted) == 12
    assert sink.connections == 2
    assert relay.metrics.counts["connections_reused"] == 10
    await relay.pool.close()


async def test_after_a_long_pause_connections_are_new(sink: Counting) -> None:
    relay = PooledRelay(sink)
    for _ in range(2):
        await relay.submit(SENDER, ["bob@a.test"])
        await relay.run()
        relay.clock.advance(MAX_IDLE.total_seconds())
    assert (len(sink.accepted), sink.connections) == (2, 2)
    await relay.pool.close()


async def test_a_connection_that_hangs_up_costs_no_attempt(sink: Counting) -> None:
    relay = PooledRelay(sink)
    await relay.submit(SENDER, ["bob@a.test"])
    await relay.run()
    sink.script["MAIL"] = [Act("421 4.4.2 Enough of you", then="close")]
    await relay.submit(SENDER, ["bob@a.test"])
    await relay.run()
    assert relay.last_attempt().attempt == 1
    assert relay.metrics.counts["deferred"] == 0
    assert (len(sink.accepted), sink.connections) == (2, 2)
    await relay.pool.close()


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_limited_site_has_its_rights_back_after_each_invocation(sink: Counting, limit: int) -> None:
    relay = PooledRelay(sink, max_connections=limit)
    for _ in range(3):
        for number in range(8):
            await relay.submit(SENDER, [f"bob{number}@{'ab'[number % 2]}.test"])
        await relay.run()
        assert relay.pool.idle == 0
        assert not relay.gates.connections
    assert len(sink.accepted) == 24
    assert sink.most <= limit
    assert sink.connections < 24


async def test_what_was_negotiated_is_kept_with_the_attempt(sink: Counting) -> None:
    relay = PooledRelay(sink)
    await relay.submit(SENDER, ["bob@a.test"])
    await relay.run()
    kept = TlsSession.read(relay.last_attempt().tls or "")
    assert (kept.peer, kept.verification, kept.protocol) == ("mx.shared.test", "unverified", "TLSv1.3")
    await relay.pool.close()


async def test_a_certificate_that_policy_wants_verified_and_is_not_defers_with_the_reason(
    sink: Counting,
) -> None:
    relay = PooledRelay(sink, tls="verified")
    message_id = await relay.submit(SENDER, ["bob@a.test"])
    await relay.run(until=lambda: relay.metrics.counts["deferred"] > 0)
    assert relay.states(message_id) == {"bob@a.test": State.DEFERRED}
    attempt = relay.last_attempt()
    assert (attempt.reason, attempt.trouble, attempt.tls) == (Reason.TLS_FAILED, "tls", None)
    assert "certificate not valid: self" in str(attempt.reply)
    assert not sink.messages
    relay.control.items["a.test"] = {"accept_invalid_certs": True}
    await relay.run()
    assert relay.states(message_id) == {"bob@a.test": State.SENT}
    assert TlsSession.read(relay.last_attempt().tls or "").verification.startswith("invalid: self")
    assert relay.metrics.counts["tls_invalid_accepted"] == 1
    await relay.pool.close()
