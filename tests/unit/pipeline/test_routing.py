"""RFC 5321 §5.1: which hosts take a destination's mail, in which order, and when there is none."""

from __future__ import annotations

import pytest

from empath.domain.errors import PermanentRefusal, TransientRefusal
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.pipeline.routing import MAX_ADDRESSES_PER_ATTEMPT, Route, endpoints_of, find_route
from empath.testing.clock import SequentialIds
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.zones import Node, Zones

OWN = "relay.test"
EVERYWHERE = DomainPolicy.model_validate({"allow_addresses": ["0.0.0.0/0", "::/0"]})


async def route(destination: str, zones: Zones) -> Route:
    return await find_route(destination, resolver=ZoneResolver(zones), ids=SequentialIds(), own_name=OWN)


async def tried(zones: Zones, *hosts: str, policy: DomainPolicy = EVERYWHERE) -> list[str]:
    endpoints = endpoints_of(Route("b.test", hosts), policy, ZoneResolver(zones))
    return [str(endpoint.address) async for endpoint in endpoints]


async def test_lower_preferences_come_first() -> None:
    found = await route(
        "b.test", {"b.test": Node(mx=[(20, "second.test"), (10, "First.test"), (30, "third.test")])}
    )
    assert found.hosts == ("first.test", "second.test", "third.test")


async def test_a_domain_without_mx_is_its_own_exchanger() -> None:
    assert (await route("b.test", {"b.test": Node(a=["192.0.2.1"])})).hosts == ("b.test",)


async def test_an_address_literal_is_asked_of_nobody() -> None:
    assert (await route("[192.0.2.1]", {})).hosts == ("[192.0.2.1]",)


async def test_a_null_mx_refuses_for_good() -> None:
    with pytest.raises(PermanentRefusal) as met:
        await route("b.test", {"b.test": Node(mx=[(0, "")])})
    assert (str(met.value.reply.enhanced), met.value.reason) == ("5.1.10", Reason.NULL_MX)


async def test_our_own_name_stops_the_exchangers_that_are_no_better() -> None:
    zones: Zones = {
        "b.test": Node(mx=[(10, "better.test"), (20, OWN), (20, "equal.test"), (30, "worse.test")])
    }
    assert (await route("b.test", zones)).hosts == ("better.test",)


@pytest.mark.parametrize(
    ("destination", "zones"),
    [
        ("b.test", {"b.test": Node(mx=[(10, OWN.upper()), (20, "worse.test")])}),
        (OWN, {OWN: Node(mx=[(10, OWN)])}),
        (OWN, {OWN: Node(a=["192.0.2.1"])}),
    ],
    ids=["mx", "own name", "own name without mx"],
)
async def test_mail_that_would_come_back_to_us_fails_at_once(destination: str, zones: Zones) -> None:
    with pytest.raises(PermanentRefusal) as met:
        await route(destination, zones)
    assert (str(met.value.reply.enhanced), met.value.reason) == ("5.4.6", Reason.LOOP)


async def test_hosts_in_order_and_ipv4_before_ipv6() -> None:
    zones: Zones = {
        "one.test": Node(a=["192.0.2.1"], aaaa=["2001:db8::1"]),
        "two.test": Node(a=["192.0.2.2"]),
    }
    assert await tried(zones, "one.test", "two.test") == ["192.0.2.1", "2001:db8::1", "192.0.2.2"]


async def test_only_so_many_addresses_are_tried() -> None:
    zones: Zones = {"one.test": Node(a=[f"192.0.2.{number}" for number in range(20)])}
    assert len(await tried(zones, "one.test")) == MAX_ADDRESSES_PER_ATTEMPT


async def test_a_host_that_may_not_be_connected_to_leaves_the_others() -> None:
    zones: Zones = {"in.test": Node(a=["10.0.0.1"]), "out.test": Node(a=["10.0.0.2", "8.8.8.8"])}
    assert await tried(zones, "in.test", "out.test", policy=DomainPolicy()) == ["8.8.8.8"]


async def test_addresses_that_are_not_global_refuse_for_good() -> None:
    with pytest.raises(PermanentRefusal) as met:
        await tried({"in.test": Node(a=["169.254.169.254"])}, "in.test", policy=DomainPolicy())
    assert met.value.reason is Reason.ADDRESS_NOT_ALLOWED


async def test_while_one_host_may_have_an_address_later_the_refusal_is_temporary() -> None:
    zones: Zones = {"none.test": Node(), "silent.test": Node(fault="servfail")}
    with pytest.raises(TransientRefusal):
        await tried(zones, "silent.test", "none.test")
    with pytest.raises(PermanentRefusal):
        await tried(zones, "none.test")
