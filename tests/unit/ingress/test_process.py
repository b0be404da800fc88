"""The ingress as a process: a start that fails says why in one line per fault, and a stop is clean."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scenarios.ingress_process import WITHIN, Ingress, starting

SURROUNDINGS = {
    "EMPATH_SPOOL_BUCKET": "spool",
    "EMPATH_ACCEPTED_QUEUE_URL": "http://127.0.0.1:9/accepted",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Ingress]]:
    with starting(tmp_path) as start:
        yield lambda **given: start(**SURROUNDINGS | given)


def test_settings_that_are_wrong_are_named_and_the_exit_code_is_2(start: Callable[..., Ingress]) -> None:
    wrong = {
        "EMPATH_HOSTNAME": "",
        "EMPATH_RELAY_NETWORKS": "10.0.0.1/8",
        "EMPATH_RELAY_DOMAINS": "one.example, -two.example",
    }
    ingress = start(**wrong)
    assert ingress.ended() == 2
    lines = ingress.errors().removeprefix("empath ingress: ").splitlines()
    assert [line.partition(" should hold")[0].partition(" is not set")[0] for line in lines] == list(wrong)
    assert lines[1].endswith("no bits set after the prefix; it holds '10.0.0.1/8'")
    assert lines[2].endswith("; it holds 'one.example, -two.example'")


def test_a_port_in_use_is_one_line_and_the_exit_code_is_2(start: Callable[..., Ingress]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ingress = start(EMPATH_SMTP_PORT=str(port))
        assert ingress.ended() == 2
    assert ingress.errors() == (
        f"empath ingress: EMPATH_SMTP_PORT: cannot listen on 127.0.0.1 port {port}: the port is in use\n"
    )


def test_without_an_aws_region_the_start_fails_in_one_line_and_with_exit_code_2(
    start: Callable[..., Ingress],
) -> None:
    ingress = start(AWS_REGION="", AWS_CONFIG_FILE=os.devnull)
    assert ingress.ended() == 2
    assert ingress.errors() == "empath ingress: AWS_REGION is not set: it should hold the region's name\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_idle_sessions_and_the_process(
    number: signal.Signals, start: Callable[..., Ingress]
) -> None:
    ingress = start()
    with socket.create_connection(("127.0.0.1", ingress.port), timeout=WITHIN) as client:
        replies = client.makefile("rb")
        assert replies.readline() == b"220 mx.example ESMTP Empath\r\n"
        ingress.signal(number)
        assert replies.read() == b"421 4.3.2 System is shutting down, closing the connection\r\n"
    assert (ingress.ended(), ingress.errors()) == (0, "")
