"""The ingress as one process and as several: what it says of its health, and how it ends.

Real processes with the AWS adapters, and moto for AWS.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.scenarios.ingress_process import WITHIN, Ingress, eventually, starting

NOBODY = "http://127.0.0.1:9"
"""An endpoint where nothing listens."""

ENVELOPE = b"HELO client.example\r\nMAIL FROM:<a@one.example>\r\nRCPT TO:<b@two.example>\r\nDATA\r\n"
SHUT_DOWN = b"421 4.3.2 System is shutting down, closing the connection\r\n"


@dataclass(frozen=True)
class Aws:
    endpoint: str
    bucket: str
    queue_url: str
    s3: Any

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "EMPATH_SPOOL_BUCKET": self.bucket,
            "EMPATH_ACCEPTED_QUEUE_URL": self.queue_url,
        }

    def messages(self) -> list[bytes]:
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix="messages/").get("Contents", [])
        return [self.s3.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read() for item in found]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(endpoint: str, tmp_path: Path) -> Aws:
    arguments: Any = {
        "endpoint_url": endpoint,
        "region_name": "eu-west-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    s3, sqs = boto3.client("s3", **arguments), boto3.client("sqs", **arguments)
    name = re.sub("[^a-z0-9]", "-", tmp_path.name.lower())
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return Aws(endpoint, name, sqs.create_queue(QueueName=name)["QueueUrl"], s3)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Ingress]]:
    with starting(tmp_path) as start:
        yield start


@contextmanager
def client_in_data(port: int) -> Iterator[tuple[socket.socket, Any]]:
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as client:
        client.sendall(ENVELOPE)
        with client.makefile("rb") as replies:
            while not (line := replies.readline()).startswith(b"354 "):
                assert line.startswith(b"2"), line
            yield client, replies


def send(port: int, content: bytes = b"hi\r\n") -> bytes:
    with client_in_data(port) as (client, replies):
        client.sendall(content + b".\r\n")
        reply: bytes = replies.readline()
        return reply


def is_gone(pid: int) -> bool:
    """Also when it waits for a parent that does not look after it."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


# One process


def test_it_is_ready_once_aws_answers_and_a_probe_leaves_no_message(
    start: Callable[..., Ingress], aws: Aws
) -> None:
    ingress = start(**aws.environment)
    ingress.until_ready()
    status, report = ingress.ask("ready")
    assert set(report["checks"]) == {"event_loop", "listener", "in_flight", "spool", "queue"}
    assert ingress.ask("live")[0] == status == 200
    assert aws.messages() == []
    assert send(ingress.port).startswith(b"250 ")
    assert aws.messages() == [b"hi\r\n"]


def test_without_aws_it_is_alive_and_not_ready_and_tells_no_internals(
    start: Callable[..., Ingress], aws: Aws
) -> None:
    ingress = start(**aws.environment | {"AWS_ENDPOINT_URL": NOBODY})
    eventually(lambda: ingress.ask("ready")[1].get("checks", {}).get("listener", {}).get("ok"))
    status, report = ingress.ask("ready")
    assert status == 503
    for name in ("spool", "queue"):
        assert report["checks"][name]["text"] == "the last call failed"
    assert "127.0.0.1" not in json.dumps(report)
    assert aws.bucket not in json.dumps(report)
    assert ingress.ask("live")[0] == 200


def test_sigterm_makes_it_not_ready_and_lets_a_message_end(start: Callable[..., Ingress], aws: Aws) -> None:
    ingress = start(**aws.environment)
    ingress.until_ready()
    with client_in_data(ingress.port) as (client, replies):
        ingress.signal(signal.SIGTERM)
        eventually(lambda: ingress.ask("ready")[0] == 503)
        assert ingress.ask("ready")[1]["checks"]["listener"]["text"] == "draining"
        assert ingress.ask("live")[0] == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", ingress.port))
        client.sendall(b"the rest\r\n.\r\n")
        assert replies.readline().startswith(b"250 ")
        assert replies.read() == SHUT_DOWN
    assert ingress.ended() == 0
    assert aws.messages() == [b"the rest\r\n"]


def test_connections_are_taken_while_the_load_balancer_has_time_to_notice(
    start: Callable[..., Ingress], aws: Aws
) -> None:
    ingress = start(**aws.environment, EMPATH_SHUTDOWN_DELAY="300")
    ingress.until_ready()
    ingress.signal(signal.SIGTERM)
    eventually(lambda: ingress.ask("ready")[0] == 503)
    assert send(ingress.port).startswith(b"250 ")
    ingress.signal(signal.SIGTERM)
    assert ingress.ended() == 0


def test_a_second_sigterm_ends_a_message_with_421(start: Callable[..., Ingress], aws: Aws) -> None:
    ingress = start(**aws.environment, EMPATH_SHUTDOWN_GRACE="300")
    ingress.until_ready()
    with client_in_data(ingress.port) as (_, replies):
        ingress.signal(signal.SIGTERM)
        eventually(lambda: ingress.ask("ready")[0] == 503)
        ingress.signal(signal.SIGTERM)
        assert replies.read() == SHUT_DOWN
    assert ingress.ended() == 0
    assert aws.messages() == []


def test_a_health_port_in_use_is_named_and_the_exit_code_is_2(
    start: Callable[..., Ingress], aws: Aws
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ingress = start(**aws.environment, EMPATH_HEALTH_PORT=str(port))
        assert ingress.ended() == 2
    assert ingress.errors() == (
        f"empath ingress: EMPATH_HEALTH_PORT: cannot listen on 127.0.0.1 port {port}: the port is in use\n"
    )


def test_a_secret_that_aws_does_not_give_is_one_line_and_the_exit_code_is_1(
    start: Callable[..., Ingress], aws: Aws
) -> None:
    ingress = start(**aws.environment | {"AWS_ENDPOINT_URL": NOBODY, "EMPATH_TLS_SECRET": "certificate"})
    assert ingress.ended() == 1
    assert len(ingress.errors().splitlines()) == 1
    assert ingress.errors().startswith("empath ingress: ")


# Several processes


def test_processes_share_a_port_and_all_of_them_take_mail(start: Callable[..., Ingress], aws: Aws) -> None:
    ingress = start(**aws.environment, EMPATH_PROCESSES="2")
    ingress.until_ready()

    def sessions() -> set[str]:
        checks = ingress.ask("ready")[1]["checks"]
        return {checks[f"process_{number}.in_flight"]["text"].split()[0] for number in (0, 1)}

    held = [socket.create_connection(("127.0.0.1", ingress.port)) for _ in range(32)]
    eventually(lambda: "0" not in sessions())
    for client in held:
        client.close()
    assert {send(ingress.port)[:4] for _ in range(8)} == {b"250 "}
    assert len(aws.messages()) == 8


def test_a_process_that_is_killed_comes_back_and_the_other_one_serves_on(
    start: Callable[..., Ingress], aws: Aws
) -> None:
    ingress = start(**aws.environment, EMPATH_PROCESSES="2")
    ingress.until_ready()
    before = ingress.pids()
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: ingress.ask("ready")[0] == 503)
    status, report = ingress.ask("ready")
    assert (status, report["checks"]["process_0.process"]["ok"]) == (503, False)
    assert report["checks"]["process_1.process"]["ok"]
    assert {send(ingress.port)[:4] for _ in range(8)} == {b"250 "}
    assert ingress.ask("live")[0] == 200
    ingress.until_ready()
    after = ingress.pids()
    assert (after[0] != before[0], after[1]) == (True, before[1])
    assert [match[1] for match in ingress.logged(r"process (\d) ended with -9; starting it again in .*")] == [
        "0"
    ]


def test_sigterm_drains_all_processes(start: Callable[..., Ingress], aws: Aws) -> None:
    ingress = start(**aws.environment, EMPATH_PROCESSES="2")
    ingress.until_ready()
    with client_in_data(ingress.port) as (client, replies):
        ingress.signal(signal.SIGTERM)
        eventually(lambda: ingress.ask("ready")[0] == 503)
        assert ingress.ask("ready")[1]["checks"]["parent"]["text"] == "draining"
        client.sendall(b"the rest\r\n.\r\n")
        assert replies.readline().startswith(b"250 ")
        assert replies.read() == SHUT_DOWN
    assert ingress.ended() == 0
    assert all(is_gone(pid) for pid in ingress.pids().values())
    assert aws.messages() == [b"the rest\r\n"]


def test_a_second_sigterm_ends_all_processes_at_once(start: Callable[..., Ingress], aws: Aws) -> None:
    ingress = start(**aws.environment, EMPATH_PROCESSES="2", EMPATH_SHUTDOWN_GRACE="300")
    ingress.until_ready()
    with client_in_data(ingress.port) as (_, replies):
        ingress.signal(signal.SIGTERM)
        eventually(lambda: len(ingress.logged("draining: .*")) == 2)
        ingress.signal(signal.SIGTERM)
        assert replies.read() == SHUT_DOWN
    assert ingress.ended() == 0


def test_processes_without_their_parent_end_by_themselves(start: Callable[..., Ingress], aws: Aws) -> None:
    ingress = start(**aws.environment, EMPATH_PROCESSES="2")
    ingress.until_ready()
    with client_in_data(ingress.port) as (client, replies):
        ingress.signal(signal.SIGKILL)
        eventually(lambda: len(ingress.logged("the parent process is gone")) == 2)
        client.sendall(b"the rest\r\n.\r\n")
        assert replies.readline().startswith(b"250 ")
    eventually(lambda: all(is_gone(pid) for pid in ingress.pids().values()))


def test_settings_that_no_process_can_use_end_the_parent_with_2(
    start: Callable[..., Ingress], aws: Aws
) -> None:
    ingress = start(**aws.environment, EMPATH_PROCESSES="2", AWS_REGION="", AWS_CONFIG_FILE=os.devnull)
    assert ingress.ended() == 2
    assert "empath ingress: AWS_REGION is not set: it should hold the region's name\n" in ingress.errors()


def test_a_port_that_others_share_is_not_joined(start: Callable[..., Ingress], aws: Aws) -> None:
    first = start(**aws.environment, EMPATH_PROCESSES="2")
    first.until_ready()
    second = start(**aws.environment, EMPATH_PROCESSES="2", EMPATH_SMTP_PORT=str(first.port))
    assert second.ended() == 2
    assert second.errors().startswith("empath ingress: EMPATH_SMTP_PORT: cannot listen on 127.0.0.1 port ")
    assert second.errors().endswith(": the port is in use\n")
