"""Settings of the gates: written short or long, refused with the field and the reason."""

from __future__ import annotations

from typing import Any

import pytest

from empath.domain.errors import InvalidPolicy
from empath.domain.gate_policy import RatePolicy
from empath.domain.policy import merge_policy, read_policy


def test_without_settings_only_the_circuit_watches() -> None:
    policy = read_policy({})
    assert (policy.rate, policy.max_connections) == (None, None)
    circuit = policy.circuit
    assert (circuit.enabled, circuit.failures, circuit.window, circuit.open_for) == (True, 5, 60, 300)


def test_a_rate_is_written_short_or_with_more_to_it() -> None:
    assert read_policy({"rate": "60/min"}).rate == RatePolicy(limit="60/min")
    long = {"limit": "10/s", "burst": 20, "shards": 4}
    assert read_policy({"rate": long}).rate == RatePolicy(limit="10/s", burst=20, shards=4)


def test_a_domains_short_rate_replaces_a_long_one_of_everybody() -> None:
    merged = merge_policy({"rate": {"limit": "10/s", "burst": 20}}, {"rate": "1/s"})
    assert read_policy(merged).rate == RatePolicy(limit="1/s")


def test_a_domain_takes_the_limit_of_everybody_away() -> None:
    assert read_policy(merge_policy({"rate": "10/s"}, {"rate": None})).rate is None


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"rate": "fast"}, "rate.limit: .*10/s"),
        ({"rate": "0/s"}, "rate.limit"),
        ({"rate": "-1/s"}, "rate.limit"),
        ({"rate": "1.5/s"}, "rate.limit"),
        ({"rate": "10/week"}, "rate.limit"),
        ({"rate": "12345678/s"}, "rate.limit"),
        ({"rate": 10}, "rate"),
        ({"rate": {"burst": 3}}, "rate.limit"),
        ({"rate": {"limit": "1/s", "burst": 0}}, "rate.burst"),
        ({"rate": {"limit": "1/s", "shards": 2}}, "shards must not be more than burst"),
        ({"rate": {"limit": "1/s", "brust": 2}}, "rate.brust"),
        ({"max_connections": 0}, "max_connections"),
        ({"max_connections": 1001}, "max_connections"),
        ({"circuit": {"failures": 0}}, "circuit.failures"),
        ({"circuit": {"window": 0}}, "circuit.window"),
        ({"circuit": {"open_for": 0}}, "circuit.open_for"),
        ({"circuit": {"open_for": 90_000}}, "circuit.open_for"),
        ({"circuit": {"enabled": "perhaps"}}, "circuit.enabled"),
    ],
)
def test_a_wrong_setting_is_named_with_the_reason(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidPolicy, match=fault):
        read_policy(settings)
