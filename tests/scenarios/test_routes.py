"""Routes through all stages: policy decides, DNS is asked only where it counts, settings can be mended."""

from __future__ import annotations

import json

import pytest

from empath.domain.delivery_state import State
from empath.domain.reason import Reason
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.relay import INTERNET, MemoryRelay

SENDER, BOB = "ann@a.test", "bob@nullmx.test"


@pytest.fixture
def dialer() -> ScriptedDialer:
    return ScriptedDialer()


@pytest.fixture
def relay(dialer: ScriptedDialer) -> MemoryRelay:
    return MemoryRelay(dialer=dialer, resolver=ZoneResolver(INTERNET))


async def test_a_smarthost_takes_mail_for_a_domain_that_has_no_exchanger(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    relay.control.items["nullmx.test"] = {
        "route": {"kind": "smarthost", "hosts": [{"host": "relay.test", "port": 2587}]}
    }
    message_id = await relay.submit(SENDER, [BOB])
    await relay.run()
    assert relay.states(message_id) == {BOB: State.SENT}
    [record] = await relay.ledger.deliveries(message_id)
    assert record.site == "smtp://relay.test:2587"
    assert record.recipients[BOB].next_hop == "relay.test[127.0.0.1]:2587"
    assert isinstance(relay.resolver, ZoneResolver)
    assert ("nullmx.test", "MX") not in relay.resolver.lookups


async def test_a_sink_takes_mail_and_nobody_else_does(relay: MemoryRelay, dialer: ScriptedDialer) -> None:
    relay.control.items["nullmx.test"] = {"route": {"kind": "sink"}}
    message_id = await relay.submit(SENDER, [BOB])
    await relay.run()
    assert relay.states(message_id) == {BOB: State.SENT}
    assert dialer.messages == []
    assert relay.spool.objects == {}


@pytest.mark.parametrize("tls", ["opportunistic", "required"])
async def test_mail_waits_for_a_login_until_somebody_writes_it(
    relay: MemoryRelay, dialer: ScriptedDialer, tls: str
) -> None:
    """And the login is for nobody but the host that is named, however little `tls` asks for."""
    route = {"kind": "smarthost", "hosts": [{"host": "relay.test"}], "secret": "login"}
    relay.control.items["nullmx.test"] = {"route": route, "tls": tls}
    message_id = await relay.submit(SENDER, [BOB])
    await relay.run(until=lambda: State.DEFERRED in relay.states(message_id).values())
    [record] = await relay.ledger.deliveries(message_id)
    assert record.reason is Reason.ROUTE_UNUSABLE
    relay.secrets.values["login"] = json.dumps({"username": "us", "password": "word"})
    await relay.run()
    assert relay.states(message_id) == {BOB: State.SENT}
    [endpoint] = dialer.endpoints
    assert (endpoint.tls, endpoint.implicit_tls) == ("verified", False)
    assert endpoint.credentials is not None


@pytest.mark.parametrize("name", ["nullmx.test", "*"])
async def test_mail_waits_for_a_policy_that_never_was_good(
    relay: MemoryRelay, dialer: ScriptedDialer, name: str
) -> None:
    """By the default route it would fail here for good, and elsewhere leave in plain."""
    wrong = {"route": {"kind": "smarthost", "hosts": [{"host": "relay.test"}]}, "prot": 2525}
    good = relay.control.items["*"]
    relay.control.items[name] = wrong
    message_id = await relay.submit(SENDER, [BOB])
    await relay.run(until=lambda: State.DEFERRED in relay.states(message_id).values())
    [record] = await relay.ledger.deliveries(message_id)
    assert record.reason is Reason.ROUTE_UNUSABLE
    assert "its policy is not valid" in str(record.recipients[BOB].reply)
    assert dialer.endpoints == []
    relay.control.items[name] = {**good, "route": wrong["route"]}
    await relay.run()
    assert relay.states(message_id) == {BOB: State.SENT}


async def test_another_route_counts_from_the_next_attempt_on(relay: MemoryRelay) -> None:
    relay.control.items["nullmx.test"] = {"route": {"kind": "lmtp", "hosts": [{"host": "nosuch.test"}]}}
    message_id = await relay.submit(SENDER, [BOB])
    await relay.run(until=lambda: State.DEFERRED in relay.states(message_id).values())
    relay.control.items["nullmx.test"] = {"route": {"kind": "sink"}}
    await relay.run()
    assert relay.states(message_id) == {BOB: State.SENT}


async def test_a_kind_that_a_worker_does_not_have_costs_time(relay: MemoryRelay) -> None:
    relay.control.items["nullmx.test"] = {"route": {"kind": "ses"}}
    message_id = await relay.submit(SENDER, [BOB])
    await relay.run(until=lambda: State.DEFERRED in relay.states(message_id).values())
    [record] = await relay.ledger.deliveries(message_id)
    assert record.reason is Reason.ROUTE_UNUSABLE
