"""RFC 5321 §5.1 and RFC 7505: which hosts are tried for a destination, and in which order."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import ClassVar

import pytest

from empath.domain.errors import PermanentRefusal, Refusal, TransientRefusal
from empath.domain.network import IPAddress
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.pipeline.dead_hosts import DEAD_FOR, MAX_KNOWN, DeadHosts
from empath.pipeline.routing import MAX_ADDRESSES_PER_ATTEMPT, MAX_SITE_NAME, Route, endpoints_of, find_route
from empath.ports import Endpoint
from empath.testing.clock import ManualClock, SequentialIds
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


async def endpoints(
    zones: Zones,
    *names: str,
    policy: DomainPolicy | None = None,
    dead: DeadHosts | None = None,
    own: str | None = None,
) -> list[str]:
    route = Route("example.test", names)
    own_addresses = [ipaddress.ip_network(own)] if own else []
    found = endpoints_of(
        route, policy or DomainPolicy(), ZoneResolver(zones), dead=dead, own_addresses=own_addresses
    )
    return [f"{endpoint.host} {endpoint.address}" async for endpoint in found]


async def refusal_of(zones: Zones, *names: str, own: str | None = None) -> Refusal:
    with pytest.raises(Refusal) as raised:
        await endpoints(zones, *names, own=own)
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


async def test_a_route_says_what_dnssec_proved_and_whether_an_operator_made_it() -> None:
    zones = {"example.test": Node(mx=[(5, "a.test")], secure=True)}
    route = await find_route(
        "example.test", resolver=ZoneResolver(zones), ids=SequentialIds(), own_name=OWN_NAME
    )
    assert (route.authenticated, route.overridden) == (True, False)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("ipv4_first", [PUBLIC, OTHER, "2606::1", "2606::2"]),
        ("ipv6_first", ["2606::1", "2606::2", PUBLIC, OTHER]),
        ("ipv4_only", [PUBLIC, OTHER]),
        ("ipv6_only", ["2606::1", "2606::2"]),
    ],
)
async def test_policy_says_which_addresses_come_first_or_at_all(order: str, expected: list[str]) -> None:
    zones = {"a.test": Node(a=[PUBLIC, OTHER], aaaa=["2606::1", "2606::2"])}
    policy = DomainPolicy.model_validate({"addresses": order})
    assert await endpoints(zones, "a.test", policy=policy) == [f"a.test {address}" for address in expected]


TWO: Zones = {"a.test": Node(a=[PUBLIC]), "b.test": Node(a=[OTHER])}


def dead_in(clock: ManualClock, address: str, reason: Reason = Reason.TIMEOUT) -> DeadHosts:
    dead = DeadHosts(clock)
    endpoint = Endpoint("any.test", ipaddress.ip_address(address), 25)
    dead.note(endpoint, TransientRefusal(Reply.of(451, "4.4.1", "no"), reason))
    return dead


async def test_a_host_that_did_not_answer_is_tried_last_and_never_dropped() -> None:
    clock = ManualClock()
    dead = dead_in(clock, PUBLIC)
    assert await endpoints(TWO, "a.test", "b.test", dead=dead) == [f"b.test {OTHER}", f"a.test {PUBLIC}"]
    assert await endpoints(TWO, "a.test", dead=dead) == [f"a.test {PUBLIC}"]
    clock.advance(DEAD_FOR.total_seconds())
    assert await endpoints(TWO, "a.test", "b.test", dead=dead) == [f"a.test {PUBLIC}", f"b.test {OTHER}"]


async def test_a_host_that_answers_again_is_in_its_place_again() -> None:
    dead = dead_in(ManualClock(), PUBLIC)
    dead.forget(Endpoint("a.test", ipaddress.ip_address(PUBLIC), 25))
    assert (await endpoints(TWO, "a.test", "b.test", dead=dead))[0] == f"a.test {PUBLIC}"


@pytest.mark.parametrize("reason", [Reason.NEXT_HOP_REPLY, Reason.TLS_FAILED])
async def test_a_host_that_refuses_in_words_is_not_dead(reason: Reason) -> None:
    dead = dead_in(ManualClock(), PUBLIC, reason)
    assert (await endpoints(TWO, "a.test", "b.test", dead=dead))[0] == f"a.test {PUBLIC}"


async def test_another_port_of_a_dead_host_is_not_dead() -> None:
    dead = dead_in(ManualClock(), PUBLIC)
    policy = DomainPolicy(port=2525)
    assert (await endpoints(TWO, "a.test", "b.test", dead=dead, policy=policy))[0] == f"a.test {PUBLIC}"


async def test_dead_hosts_count_among_the_addresses_of_an_attempt() -> None:
    addresses = [f"93.184.216.{last}" for last in range(1, 20)]
    zones = {"a.test": Node(a=addresses)}
    tried = await endpoints(zones, "a.test", dead=dead_in(ManualClock(), addresses[0]))
    assert tried == [f"a.test {address}" for address in addresses[1 : MAX_ADDRESSES_PER_ATTEMPT + 1]]


def test_only_so_many_dead_hosts_are_remembered() -> None:
    clock = ManualClock()
    dead = DeadHosts(clock)
    first = int(ipaddress.ip_address(PUBLIC))
    known = [Endpoint("a.test", ipaddress.ip_address(first + number), 25) for number in range(MAX_KNOWN + 5)]
    for endpoint in known:
        dead.note(endpoint, TransientRefusal(Reply.of(451, "4.4.1", "no"), Reason.CONNECTION_FAILED))
    assert sum(endpoint in dead for endpoint in known) == MAX_KNOWN
    assert known[-1] in dead


async def test_a_host_at_one_of_our_own_addresses_ends_the_list() -> None:
    zones = {**TWO, "c.test": Node(a=["93.184.216.40"])}
    assert await endpoints(zones, "a.test", "b.test", "c.test", own=f"{OTHER}/32") == [f"a.test {PUBLIC}"]
    refusal = await refusal_of(zones, "b.test", "c.test", own=f"{OTHER}/32")
    assert (str(refusal.reply.status), refusal.reason) == ("5.4.6", Reason.LOOP)


async def test_hosts_in_trouble_are_waited_for_at_the_same_time() -> None:
    """A hundred in a zone whose servers are dead, one by one, would take longer than an invocation."""
    names = [f"d{number}.test" for number in range(99)]

    class DeadZone(ZoneResolver):
        asked: ClassVar[list[str]] = []
        all_asked = asyncio.Event()

        async def addresses(self, host: str) -> Sequence[IPAddress]:
            self.asked.append(host)
            if len(self.asked) > 1:
                if len(set(self.asked)) == len(names) + 1:
                    self.all_asked.set()
                await self.all_asked.wait()
            return await super().addresses(host)

    resolver = DeadZone({**dict.fromkeys(names, Node(fault="drop")), "b.test": Node(a=[PUBLIC])})
    found = endpoints_of(Route("example.test", (*names, "b.test")), DomainPolicy(), resolver)
    assert [endpoint.host async for endpoint in found] == ["b.test"]
