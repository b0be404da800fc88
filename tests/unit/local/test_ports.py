"""Which ports the ingress gets: those asked for or none, and free ones where nobody asked."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from empath.local import ports
from empath.local.errors import LocalStackError
from empath.local.options import PORTS_IF_FREE, LocalOptions
from empath.local.ports import ingress_ports, require_ingress_ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free() -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    numbers = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return numbers


def test_ports_that_were_asked_for_are_taken(free: list[int]) -> None:
    smtp, submission, submissions, health = free
    chosen = ingress_ports(
        LocalOptions(
            smtp_port=smtp, submission_port=submission, submissions_port=submissions, health_port=health
        )
    )
    assert chosen.environment() == {
        "EMPATH_SMTP_PORT": str(smtp),
        "EMPATH_SUBMISSION_PORT": str(submission),
        "EMPATH_SUBMISSIONS_PORT": str(submissions),
        "EMPATH_HEALTH_PORT": str(health),
    }


@pytest.mark.parametrize("variable", ["EMPATH_SMTP_PORT", *(name for name, _ in PORTS_IF_FREE.values())])
def test_a_port_that_was_asked_for_and_is_in_use_is_named(taken: int, free: list[int], variable: str) -> None:
    options = LocalOptions.from_environment({"EMPATH_SMTP_PORT": str(free[0]), variable: str(taken)})
    with pytest.raises(LocalStackError, match=f"port {taken} of .*set {variable} to another port"):
        require_ingress_ports(options)


def test_a_default_that_is_in_use_or_somebody_elses_gives_way_to_the_next(
    taken: int, free: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    smtp, submission, *_ = free
    defaults = {
        "submission_port": ("EMPATH_SUBMISSION_PORT", submission),
        "submissions_port": ("EMPATH_SUBMISSIONS_PORT", taken),
        "health_port": ("EMPATH_HEALTH_PORT", smtp),
    }
    monkeypatch.setattr(ports, "PORTS_IF_FREE", defaults)
    chosen = ingress_ports(LocalOptions(smtp_port=smtp))
    assert chosen.submission == submission
    assert chosen.submissions > taken
    assert chosen.health > smtp
    assert len({chosen.smtp, chosen.submission, chosen.submissions, chosen.health}) == 4


def test_where_no_next_one_is_free_the_variable_is_named(
    taken: int, free: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "MAX_STEPS", 1)
    monkeypatch.setattr(ports, "PORTS_IF_FREE", {"health_port": ("EMPATH_HEALTH_PORT", taken)})
    with pytest.raises(LocalStackError, match=f"no port from {taken} on is free; set EMPATH_HEALTH_PORT"):
        ingress_ports(LocalOptions(smtp_port=free[0]))
