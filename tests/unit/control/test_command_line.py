"""The command line as a whole: exit codes 0, 1, 2, one line for an error, and never a traceback."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from empath.control import queue_commands, queue_reading
from empath.control.__main__ import run
from empath.control.queue_reading import Depth
from empath.domain.errors import LedgerTrouble
from empath.local.state import RunningStack, write_state
from empath.ports import QueueName
from empath.testing.memory_ledger import MemoryLedger
from empath.testing.relay import MemoryRelay
from empath.testing.smtp_sink import SmtpSink


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No stack of a developer, no AWS account."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("AWS_", "EMPATH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@dataclass
class MemoryTarget:
    relay: MemoryRelay
    trouble: bool = False
    description: str = "memory"
    outputs: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[MemoryLedger]:
        if self.trouble:
            raise LedgerTrouble("the table does not answer")
        yield self.relay.ledger


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    relay = MemoryRelay()
    target = MemoryTarget(relay)
    monkeypatch.setattr(queue_commands, "find_target", lambda _: target)
    depths = [Depth(QueueName.RETRY, is_dead=False, visible=1, in_flight=0, delayed=0)]
    monkeypatch.setattr(queue_reading, "read_depths", lambda _: depths)
    return target


def a_message(target: MemoryTarget) -> str:
    async def submit() -> str:
        message_id = await target.relay.submit("ann@a.test", ["bob@good.test"])
        await target.relay.run(days=0.01)
        return message_id

    return asyncio.run(submit())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["queue"],
        ["queue", "list", "--limit", "none"],
        ["queue", "list", "--status", "sent"],
        ["queue", "view"],
        ["queue", "view", "x"],
        ["send", "--to", "bob@b.test"],
        ["send", "--from", "ann", "--to", "bob@b.test"],
        ["send", "--from", "<>", "--to", "bob"],
        ["send", "--from", "<>", "--to", "bob@b.test", "--server", "x:y"],
        ["send", "--from", "<>", "--to", "bob@b.test", "--file", "not-there.eml"],
        ["send", "--from", "<>", "--to", "bob@b.test", "--text", "\udcff"],
        ["send", "--from", "<>", "--to", "bob@b.test", "--subject", "\udcff"],
        ["local", "up", "--smtp-port", "0"],
        ["local", "up", "--smtp-port", "2526"],
        ["local", "invoke", "nonsense", "event.json"],
    ],
)
def test_a_wrong_command_line_ends_with_2_and_no_traceback(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    assert captured.err + captured.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["queue", "list"], "make run"),
        (["queue", "view", "01ARZ3NDEKTSV4RRFFQ69G5FAV"], "make run"),
        (["audit", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"], "make run"),
        (["local", "status"], "no local stack runs"),
        (["local", "events"], "no local stack runs"),
    ],
)
def test_a_deployment_that_cannot_be_found_ends_with_1(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 1
    captured = capsys.readouterr()
    assert words in captured.err + captured.out


def test_a_stack_that_was_killed_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    write_state(state, RunningStack(2**22 + 1, "http://127.0.0.1:1", "us-east-1", "a:1", "b:2", "c:3"))
    assert run(["queue", "list", "--state-dir", str(state)]) == 1
    assert "runs no more" in capsys.readouterr().err


def test_a_broken_state_file_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / ".empath").mkdir()
    (tmp_path / ".empath" / "stack.json").write_text("{")
    assert run(["queue", "list"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_port_in_use_is_told_before_anything_is_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("EMPATH_SMTP_PORT", str(port))
        assert run(["local", "up"]) == 1
    captured = capsys.readouterr()
    assert f"port {port} of 127.0.0.1, meant for the ingress, cannot be used" in captured.err
    assert "EMPATH_SMTP_PORT" in captured.err
    assert captured.out == ""


def test_a_state_directory_that_cannot_be_used_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert run(["local", "up", "--state-dir", str(place)]) == 1
        assert "cannot be the state directory" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["garbage", "http://", "ftp://127.0.0.1:4566", "http://127.0.0.1:x"])
def test_an_endpoint_that_is_no_url_ends_up_with_2(
    value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    assert run(["local", "up"]) == 2
    assert f"AWS_ENDPOINT_URL is '{value}'" in capsys.readouterr().err


def test_down_without_a_stack_is_success() -> None:
    assert run(["local", "down"]) == 0


def test_trouble_is_one_line_and_debug_shows_where(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.trouble = True
    assert run(["queue", "list"]) == 1
    assert capsys.readouterr().err == "empathctl: the table does not answer\n"
    assert run(["queue", "list", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_what_nobody_thought_of_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(queue_commands, "find_target", broken)
    assert run(["queue", "list"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "surprise" in line
    assert "--debug" in line


def test_list_and_view_speak_json(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    message_id = a_message(target)
    assert run(["queue", "view", message_id.lower(), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["deliveries"][0]["recipients"][0]["state"] == "SENT"
    assert run(["queue", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deliveries"] == []


def test_list_and_view_speak_to_a_person(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    message_id = a_message(target)
    assert run(["queue", "view", message_id]) == 0
    text = capsys.readouterr().out
    assert "bob@good.test" in text
    assert "SENT" in text
    assert "next: nothing more" in text
    assert run(["queue", "list"]) == 0
    assert "No delivery is deferred" in capsys.readouterr().out


async def test_send_finds_the_local_stack_and_says_what_it_changed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / ".empath").mkdir()
    (tmp_path / "mail.eml").write_bytes(b"Subject: x\n\nhello\n")
    async with SmtpSink({"RCPT eve@b.test": "550 5.1.1 unknown"}) as sink:
        stack = RunningStack(os.getpid(), "http://x", "us-east-1", f"127.0.0.1:{sink.port}", "b:2", "c:3")
        write_state(tmp_path / ".empath", stack)
        arguments = ["send", "--from", "ann@a.test", "--to", "bob@b.test", "--file", "mail.eml"]
        assert await asyncio.to_thread(run, arguments) == 0
        assert "3 line ends were LF" in capsys.readouterr().out
        assert sink.accepted[0].content == b"Subject: x\r\n\r\nhello\r\n"
        assert await asyncio.to_thread(run, [*arguments, "--to", "eve@b.test", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [recipient["accepted"] for recipient in document["recipients"]] == [True, False]
    assert document["accepted"] is True
