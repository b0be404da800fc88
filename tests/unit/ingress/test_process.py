"""The ingress as a process: a start that fails says why in one line per fault, and a stop is clean."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {
    "EMPATH_SPOOL_BUCKET": "spool",
    "EMPATH_ACCEPTED_QUEUE_URL": "http://127.0.0.1:9/accepted",
    "EMPATH_HOSTNAME": "mx.example",
    "EMPATH_SMTP_HOST": "127.0.0.1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
TIMEOUT = 60


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def start(**environment: str) -> subprocess.Popen[str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("EMPATH_", "AWS_"))
    }
    return subprocess.Popen(
        [sys.executable, "-m", "functions.ingress"],
        cwd=ROOT,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_settings_that_are_wrong_are_named_and_the_exit_code_is_2() -> None:
    wrong = {
        "EMPATH_HOSTNAME": "",
        "EMPATH_RELAY_NETWORKS": "10.0.0.1/8",
        "EMPATH_RELAY_DOMAINS": "one.example, -two.example",
    }
    process = start(**ENVIRONMENT | wrong)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    lines = errors.removeprefix("empath ingress: ").splitlines()
    assert [line.partition(" should hold")[0].partition(" is not set")[0] for line in lines] == list(wrong)
    assert lines[1].endswith("no bits set after the prefix; it holds '10.0.0.1/8'")
    assert lines[2].endswith("; it holds 'one.example, -two.example'")


def test_a_port_in_use_is_one_line_and_the_exit_code_is_2(taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    process = start(**ENVIRONMENT, EMPATH_SMTP_PORT=str(port))
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert errors == (
        f"empath ingress: EMPATH_SMTP_PORT: cannot listen on 127.0.0.1 port {port}: the port is in use\n"
    )


def test_without_an_aws_region_the_start_fails_in_one_line_and_with_exit_code_2() -> None:
    process = start(**ENVIRONMENT | {"AWS_DEFAULT_REGION": "", "AWS_CONFIG_FILE": os.devnull})
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert errors == "empath ingress: AWS_REGION is not set: it should hold the region's name\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_idle_sessions_and_the_process(number: signal.Signals, taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    taken.close()
    process = start(**ENVIRONMENT, EMPATH_SMTP_PORT=str(port))
    with _connected(port) as client:
        replies = client.makefile("rb")
        assert replies.readline() == b"220 mx.example ESMTP Empath\r\n"
        process.send_signal(number)
        assert replies.read() == b"421 4.3.2 System is shutting down, closing the connection\r\n"
    _, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, errors) == (0, "")


def _connected(port: int) -> socket.socket:
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
