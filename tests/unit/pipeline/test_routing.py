"""RFC 5321 §5.1 and RFC 7505: which hosts are tried for a destination, and in which order."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest

from empath.domain.errors import PermanentRefusal, Refusal, TransientRefusal
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.pipeline.routing import MAX_ADDRESSES_PER_ATTEMPT, MAX_SITE_NAME, Route, endpoints_of, find_route
from empath.testing.clock import SequentialIds
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.zones import Node, Zones

OWN_NAME = "relay.example.net"
PUBLIC = "93.184.216.34"
OTHER = "93.184.216.35"


async def hosts(zones: Zones, destination: str = "example.test", *, seed: int = 0) -> Sequence[str]:
    route = await find_route(
        destination, resolver=ZoneResolver(zones), ids=SequentialIds(seed), own_name=OWN_NAME
    )
    return route.hosts


async def endpoints(zones: Zones, *names: str, policy: DomainPolicy | None = None) -> list[str]:
    route = Route("example.test", names)
    found = endpoints_of(route, policy or DomainPolicy(), ZoneResolver(zones))
    return [f"{endpoint.host} {endpoint.address}" async for endpoint in found]


async def refusal_of(zones: Zones, *names: str) -> Refusal:
    with pytest.raises(Refusal) as raised:
        await endpoints(zones, *names)
    return raised.value


async def test_lower_preferences_come_first() -> None:
    zones = {"example.test": Node(mx=[(20, "b.test"), (5, "a.test"), (30, "c.test")])}
    assert await hosts(zones) == ("a.test", "b.test", "c.test")


async def test_equal_preferences_are_shuffled_and_others_stay_in_order() -> None:
    zones = {"example.test": Node(mx=[(10, "a.test"), (10, "b.test"), (10, "c.test"), (20, "d.test")])}
    orders = {tuple(await hosts(zones, seed=seed)) for seed in range(30)}
    assert len(orders) > 1
    assert all(order[-1] == "d.test" for order in orders)


async def test_without_mx_records_the_domain_is_its_own_exchanger() -> None:
    assert await hosts({"example.test": Node(a=[PUBLIC])}) == ("example.test",)


async def test_an_address_literal_needs_no_dns() -> None:
    assert await hosts({}, "[192.0.2.1]") == ("[192.0.2.1]",)
    assert await endpoints({}, "[93.184.216.34]") == ["[93.184.216.34] 93.184.216.34"]


async def test_a_null_mx_refuses_for_good() -> None:
    with pytest.raises(PermanentRefusal) as raised:
        await hosts({"example.test": Node(mx=[(0, "")])})
    assert str(raised.value.reply).startswith("556 5.1.10")
    assert raised.value.reason is Reason.NULL_MX


async def test_a_null_mx_among_others_is_left_out() -> None:
    assert await hosts({"example.test": Node(mx=[(0, ""), (10, "a.test")])}) == ("a.test",)


async def test_a_domain_that_does_not_exist_refuses_for_good() -> None:
    with pytest.raises(PermanentRefusal) as raised:
        await hosts({})
    assert raised.value.reason is Reason.NO_SUCH_DOMAIN


async def test_ourselves_and_whoever_is_less_preferred_are_left_out() -> None:
    zones = {
        "example.test": Node(mx=[(5, "a.test"), (10, OWN_NAME), (10, "b.test"), (20, "c.test")]),
    }
    assert await hosts(zones) == ("a.test",)


async def test_a_loop_to_ourselves_refuses_for_good() -> None:
    with pytest.raises(PermanentRefusal) as raised:
        await hosts({"example.test": Node(mx=[(10, OWN_NAME.upper()), (20, "b.test")])})
    assert str(raised.value.reply).startswith("554 5.4.6")
    assert raised.value.reason is Reason.LOOP


async def test_a_host_that_is_named_twice_is_tried_once() -> None:
    assert await hosts({"example.test": Node(mx=[(5, "a.test"), (10, "A.test")])}) == ("a.test",)


def test_a_site_is_the_set_of_its_hosts_whatever_their_order() -> None:
    assert Route("x.test", ("b.test", "a.test")).site == Route("y.test", ("a.test", "b.test")).site
    assert Route("x.test", ("a.test",)).site == "a.test"


def test_the_name_of_a_large_site_is_short_and_its_own() -> None:
    many = tuple(f"mx{number}.a-rather-long-name.example" for number in range(20))
    site = Route("x.test", many).site
    assert len(site) < MAX_SITE_NAME
    assert site != Route("x.test", (*many, "one-more.example")).site


async def test_ipv4_comes_before_ipv6_host_by_host() -> None:
    zones = {
        "a.test": Node(a=[PUBLIC], aaaa=["2606:2800:220:1::1"]),
        "b.test": Node(a=[OTHER]),
    }
    assert await endpoints(zones, "a.test", "b.test") == [
        f"a.test {PUBLIC}",
        "a.test 2606:2800:220:1::1",
        f"b.test {OTHER}",
    ]


async def test_only_so_many_addresses_are_tried_in_one_attempt() -> None:
    zones = {"a.test": Node(a=[f"93.184.216.{last}" for last in range(1, 20)])}
    assert len(await endpoints(zones, "a.test")) == MAX_ADDRESSES_PER_ATTEMPT


async def test_an_endpoint_carries_the_policy_of_its_destination() -> None:
    policy = DomainPolicy.model_validate({"port": 2525, "tls": "required", "allow_addresses": ["10.0.0.0/8"]})
    route = Route("example.test", ("a.test",))
    resolver = ZoneResolver({"a.test": Node(a=["10.1.2.3"])})
    [endpoint] = [found async for found in endpoints_of(route, policy, resolver)]
    assert (endpoint.port, endpoint.tls) == (2525, "required")
    assert endpoint.address == ipaddress.ip_address("10.1.2.3")
    assert endpoint.allow_addresses == policy.allow_addresses


async def test_private_addresses_are_passed_over_and_refused_when_there_is_nothing_else() -> None:
    zones = {"a.test": Node(a=["127.0.0.1", "169.254.169.254"]), "b.test": Node(a=[PUBLIC])}
    assert await endpoints(zones, "a.test", "b.test") == [f"b.test {PUBLIC}"]
    refusal = await refusal_of(zones, "a.test")
    assert isinstance(refusal, PermanentRefusal)
    assert refusal.reason is Reason.ADDRESS_NOT_ALLOWED


async def test_a_host_without_addresses_is_refused_for_good() -> None:
    refusal = await refusal_of({"a.test": Node()}, "a.test")
    assert isinstance(refusal, PermanentRefusal)
    assert refusal.reason is Reason.NO_ADDRESS


async def test_a_host_whose_dns_is_in_trouble_keeps_hope_alive() -> None:
    zones = {"a.test": Node(fault="servfail"), "b.test": Node(), "c.test": Node(a=[PUBLIC])}
    assert await endpoints(zones, "a.test", "c.test") == [f"c.test {PUBLIC}"]
    refusal = await refusal_of(zones, "b.test", "a.test")
    assert isinstance(refusal, TransientRefusal)
    assert refusal.reason is Reason.DNS_TROUBLE
