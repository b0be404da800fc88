"""Traces: ids without the SDK, entities with it, and no daemon is no error."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from empath.observe import tracing

ROOT = "1-5759e988-bd862e3fe1be46a994272793"
HEADER = f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1"


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """An X-Ray daemon that is only a socket; tracing is on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(5)
        monkeypatch.setenv("AWS_XRAY_DAEMON_ADDRESS", f"127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setattr(tracing, "_emitter", None)
        tracing.configure(tracing=True)
        yield listener
        tracing.configure(tracing=False)


def received(daemon: socket.socket) -> dict[str, Any]:
    head, _, entity = daemon.recv(65_536).decode().partition("\n")
    assert json.loads(head)["format"] == "json"
    document: dict[str, Any] = json.loads(entity)
    return document


def test_the_trace_is_the_one_continued_or_the_invocations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
    assert tracing.trace_id() is None
    monkeypatch.setenv("_X_AMZN_TRACE_ID", HEADER)
    assert tracing.trace_id() == ROOT
    with tracing.continued("Root=1-other"), tracing.continued(None):
        assert tracing.trace_id() == "1-other"
        assert tracing.trace_header() == "Root=1-other"
    assert tracing.trace_header() == HEADER


@pytest.mark.parametrize("header", ["", "nonsense", "Root=", ";;=", "Parent=1"])
def test_a_header_without_root_names_no_trace(header: str) -> None:
    with tracing.continued(header or None):
        assert tracing.trace_id(header) is None


def test_off_records_nothing_and_leaves_the_sdk_alone() -> None:
    program = (
        "import sys; from empath.observe import tracing; tracing.configure(False)\n"
        "with tracing.traced('deliver'): pass\n"
        "sys.exit(any(name.startswith('aws_xray_sdk') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_stage_is_a_subsegment_of_the_invocation(daemon: socket.socket) -> None:
    with tracing.continued(HEADER), tracing.traced("deliver", message_id="M1"):
        pass
    entity = received(daemon)
    assert (entity["name"], entity["trace_id"], entity["type"]) == ("deliver", ROOT, "subsegment")
    assert entity["parent_id"] == "53995c3f42cd8ad8"
    assert entity["annotations"] == {"message_id": "M1"}
    assert entity["end_time"] >= entity["start_time"]


async def test_concurrent_stages_have_their_own_children(daemon: socket.socket) -> None:
    async def work(name: str) -> None:
        with tracing.traced(name):
            await asyncio.sleep(0.01)
            with tracing.traced(f"{name}-child"):
                await asyncio.sleep(0.01)

    with tracing.continued(HEADER):
        await asyncio.gather(work("a"), work("b"))
    entities = {entity["name"]: entity for entity in (received(daemon) for _ in range(4))}
    for name in ("a", "b"):
        assert entities[f"{name}-child"]["parent_id"] == entities[name]["id"]
        assert entities[name]["parent_id"] == "53995c3f42cd8ad8"


def test_a_trace_that_begins_here_has_a_segment(daemon: socket.socket) -> None:
    with tracing.continued("Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"), tracing.traced("ingress"):
        pass
    entity = received(daemon)
    assert "parent_id" not in entity
    assert entity.get("type") != "subsegment"


def test_an_exception_marks_its_stage_and_passes(daemon: socket.socket) -> None:
    with tracing.continued(HEADER), pytest.raises(ValueError, match="bob@"), tracing.traced("deliver"):
        raise ValueError("bob@example.com")
    entity = received(daemon)
    assert entity["fault"] is True
    assert entity["annotations"] == {"error": "ValueError"}


def test_an_unsampled_trace_is_not_recorded(daemon: socket.socket) -> None:
    with tracing.continued(HEADER.replace("Sampled=1", "Sampled=0")), tracing.traced("deliver"):
        pass
    daemon.settimeout(0.05)
    with pytest.raises(TimeoutError):
        daemon.recv(100)


def test_without_a_daemon_the_work_goes_on(daemon: socket.socket) -> None:
    daemon.close()
    with tracing.continued(HEADER):
        for _ in range(3):
            with tracing.traced("deliver"):
                pass
