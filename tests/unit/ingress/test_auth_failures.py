"""Who guesses passwords becomes slow, then unwelcome, and is forgiven in time; nobody else notices."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.ingress.auth_failures import (
    MAX_DELAY,
    MAX_GUESSES,
    MAX_IN_SESSION,
    MAX_OF_NETWORK,
    WINDOW,
    AuthFailures,
)
from empath.ingress.client_network import client_network

CLIENT = ip_address("192.0.2.1")


def sessions_of(failures: AuthFailures, count: int, *, now: float, client: str = "192.0.2.1") -> None:
    """One wrong password in each of `count` sessions."""
    for _ in range(count):
        failures.failed(ip_address(client), in_session=1, now=now)


def test_a_session_becomes_slower_with_each_wrong_password_and_ends_with_the_fifth() -> None:
    failures = AuthFailures()
    penalties = [failures.failed(CLIENT, in_session=n, now=0) for n in range(1, 6)]
    assert [penalty.delay for penalty in penalties] == [1, 2, 4, 8, 16]
    assert [penalty.ends_session for penalty in penalties] == [False, False, False, False, True]
    assert len(penalties) == MAX_IN_SESSION


def test_a_new_session_does_not_begin_anew() -> None:
    failures = AuthFailures()
    sessions_of(failures, 3, now=0)
    assert failures.failed(CLIENT, in_session=1, now=0).delay == 8


def test_a_network_that_goes_on_is_shut_out_and_has_a_guess_every_half_minute_then() -> None:
    failures = AuthFailures()
    for number in range(1, MAX_OF_NETWORK + 1):
        assert not failures.is_shut_out(CLIENT, 0)
        penalty = failures.failed(CLIENT, in_session=1, now=0)
        assert penalty.ends_session is (number == MAX_OF_NETWORK)
    assert failures.is_shut_out(CLIENT, 0)
    assert failures.is_shut_out(CLIENT, 29.9)
    assert not failures.is_shut_out(CLIENT, 30)
    assert failures.failed(CLIENT, in_session=1, now=30).ends_session
    assert failures.is_shut_out(CLIENT, 59)


def test_all_is_forgotten_in_ten_minutes() -> None:
    failures = AuthFailures()
    sessions_of(failures, MAX_OF_NETWORK, now=0)
    assert failures.failed(CLIENT, in_session=1, now=WINDOW).delay == 1


def test_a_device_with_an_old_password_that_tries_each_minute_shuts_nobody_out() -> None:
    failures = AuthFailures()
    for minute in range(24 * 60):
        assert not failures.is_shut_out(CLIENT, minute * 60)
        assert failures.failed(CLIENT, in_session=1, now=minute * 60).delay == 1


def test_a_device_that_tries_the_same_again_and_again_is_slow_itself_and_shuts_nobody_out() -> None:
    failures = AuthFailures()
    for _ in range(100):
        for in_session in range(1, MAX_IN_SESSION + 1):
            assert not failures.is_shut_out(CLIENT, 0)
            penalty = failures.failed(CLIENT, in_session=in_session, now=0, guess="printer\0old")
            assert penalty.delay == 2 ** (in_session - 1)
    assert penalty.ends_session


def test_guesses_among_what_is_tried_again_count_all_the_same() -> None:
    failures = AuthFailures()
    for number in range(MAX_OF_NETWORK - 1):
        assert not failures.is_shut_out(CLIENT, 0)
        failures.failed(CLIENT, in_session=1, now=0, guess="printer\0old")
        failures.failed(CLIENT, in_session=1, now=0, guess=f"ann\0guess {number}")
    assert failures.is_shut_out(CLIENT, 0)


def test_one_password_for_many_names_is_as_many_guesses() -> None:
    failures = AuthFailures()
    for number in range(MAX_OF_NETWORK):
        failures.failed(CLIENT, in_session=1, now=0, guess=f"user{number}\0summer")
    assert failures.is_shut_out(CLIENT, 0)


def test_a_few_guesses_in_turns_are_guesses_once_they_are_more_than_a_device_has() -> None:
    failures = AuthFailures()
    for number in range(MAX_OF_NETWORK):
        failures.failed(CLIENT, in_session=1, now=0, guess=str(number % (MAX_GUESSES + 1)))
    assert failures.is_shut_out(CLIENT, 0)


def test_guesses_made_at_once_are_paid_for_later() -> None:
    failures = AuthFailures()
    sessions_of(failures, 200, now=0)
    assert failures.is_shut_out(CLIENT, 3600)
    assert not failures.is_shut_out(CLIENT, 6000)


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_a_network_is_an_ipv4_address_or_a_64(one: str, other: str, are_one: bool) -> None:
    failures = AuthFailures()
    sessions_of(failures, MAX_OF_NETWORK, now=0, client=one)
    assert failures.is_shut_out(ip_address(other), 0) is are_one
    assert (client_network(ip_address(one)) == client_network(ip_address(other))) is are_one


def test_clients_whose_address_is_not_known_are_one_network() -> None:
    failures = AuthFailures()
    for _ in range(MAX_OF_NETWORK):
        failures.failed(None, in_session=1, now=0)
    assert failures.is_shut_out(None, 0)
    assert not failures.is_shut_out(CLIENT, 0)


def test_only_so_many_networks_are_remembered_and_the_latest_are() -> None:
    failures = AuthFailures(max_networks=3)
    for client in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1", "192.0.2.4"):
        sessions_of(failures, MAX_OF_NETWORK, now=0, client=client)
    assert len(failures) == 3
    shut_out = [number for number in range(1, 5) if failures.is_shut_out(ip_address(f"192.0.2.{number}"), 0)]
    assert shut_out == [1, 3, 4]


@given(
    st.lists(st.tuples(st.integers(1, 2000), st.floats(0, 1e6), st.sampled_from(["a::", "b::", "192.0.2.1"])))
)
def test_nobody_waits_longer_than_the_bound_and_nobody_not_at_all(
    failed: list[tuple[int, float, str]],
) -> None:
    failures, now = AuthFailures(max_networks=2), 0.0
    for in_session, later, client in failed:
        now += later
        penalty = failures.failed(ip_address(client), in_session=in_session, now=now)
        assert 1 <= penalty.delay <= MAX_DELAY
        assert len(failures) <= 2
