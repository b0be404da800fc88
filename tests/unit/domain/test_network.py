"""Where a relay may connect to: the guard against private, loopback and metadata addresses."""

from __future__ import annotations

import ipaddress

import pytest

from empath.domain.network import embedded_ipv4, is_allowed


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::10.0.0.1",
        "2001:0:1::",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
    ],
)
def test_what_is_not_globally_routable_is_refused_however_it_is_written(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "203.0.112.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_globally_routable_addresses_are_allowed(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address))


def test_policy_allows_a_network_in_every_way_of_writing_it() -> None:
    networks = [ipaddress.ip_network("127.0.0.0/8")]
    assert is_allowed(ipaddress.ip_address("127.0.0.2"), networks)
    assert is_allowed(ipaddress.ip_address("::ffff:127.0.0.2"), networks)
    assert not is_allowed(ipaddress.ip_address("10.0.0.1"), networks)
    assert not is_allowed(ipaddress.ip_address("::1"), networks)


def test_an_ipv4_address_wraps_nothing() -> None:
    assert embedded_ipv4(ipaddress.ip_address("8.8.8.8")) is None
    assert embedded_ipv4(ipaddress.ip_address("2002:808:808::")) == ipaddress.ip_address("8.8.8.8")
