"""Where a relay may connect to: the guard against private, loopback and metadata addresses."""

from __future__ import annotations

import ipaddress

import pytest

from empath.domain.network import embedded_ipv4, is_allowed, why_refused


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
        "192.88.99.1",
        "198.51.100.1",
        "203.0.113.1",
        "239.255.255.255",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::808:808",
        "::ffff:0:7f00:1",
        "::ffff:0:808:808",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::10.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "64:ff9b:1:ffff::1",
        "64:ff9b::ffff:8.8.8.8",
        "100::1",
        "2001:0:1::",
        "2001:0:4136:e378:8000:63bf:f7f7:f7f7",
        "2001:2::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:808:808::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
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


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("8.8.8.8", None),
        ("2606:4700::1111", None),
        ("169.254.169.254", "metadata service"),
        ("fd00:ec2::254", "metadata service"),
        ("100.64.0.1", "shared between carriers (CGNAT)"),
        ("::1", "loopback"),
        ("::", "unspecified"),
        ("::ffff:10.0.0.1", "private, as 10.0.0.1"),
        ("64:ff9b::7f00:1", "loopback, as 127.0.0.1"),
        ("2002:808:808::1", "6to4"),
        ("fec0::1", "site-local"),
        ("4000::1", "not given out"),
    ],
)
def test_an_operator_hears_what_is_wrong_with_an_address(address: str, what: str | None) -> None:
    assert why_refused(ipaddress.ip_address(address)) == what
