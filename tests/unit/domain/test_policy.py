"""Policies: merged field by field, refused with the field and the reason."""

from __future__ import annotations

import pytest

from empath.domain.errors import InvalidPolicy
from empath.domain.policy import DomainPolicy, merge_policy, read_policy


def test_a_domain_overrides_the_default_field_by_field() -> None:
    base = {"port": 2526, "retry": {"first_delay": 2, "expiry": 3600}}
    merged = merge_policy(base, {"retry": {"expiry": 60}, "tls": "required"})
    policy = read_policy(merged)
    assert (policy.port, policy.tls) == (2526, "required")
    assert (policy.retry.first_delay, policy.retry.expiry) == (2, 60)
    assert base["retry"] == {"first_delay": 2, "expiry": 3600}


def test_no_settings_are_the_defaults() -> None:
    assert read_policy({}) == DomainPolicy()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"port": 0}, "port"),
        ({"tls": "maybe"}, "tls"),
        ({"retry": {"jitter": 2}}, "retry.jitter"),
        ({"allow_addresses": ["127.0.0.1/8"]}, "allow_addresses.0"),
        ({"prot": 25}, "prot"),
        ({"max_connections": True}, "max_connections: a number is needed, not true"),
        ({"retry": {"expiry": True}}, "retry.expiry: a number is needed, not true"),
        ({"rate": {"limit": "10/s", "burst": True}}, "rate.burst: a number is needed"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidPolicy, match=field):
        read_policy(settings)


@pytest.mark.parametrize("network", ["127.0.0.1/8", "fd00::1/8", "everywhere", "10.0.0.0/33", ""])
def test_what_is_no_network_is_told_in_one_sentence(network: str) -> None:
    with pytest.raises(InvalidPolicy) as refused:
        read_policy({"allow_addresses": [network]})
    words = "a network is needed, with no bit set behind its prefix: 10.20.0.0/16"
    assert str(refused.value) == f"allow_addresses.0: {words}"
