"""What a local stack leaves behind: a description, checked when read, and a lock that tells who lives."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from empath.local.errors import LocalStackError
from empath.local.stack import take_down
from empath.local.state import RunningStack, is_held, lock_file, read_state, state_file, write_state

RUNNING = RunningStack(os.getpid(), "http://127.0.0.1:1", "us-east-1", "h:1", "h:2", "h:3", {"A": "b"})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_state(tmp_path, RUNNING)
    assert read_state(tmp_path) == RUNNING


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"pid":"7","endpoint_url":"x","region":"a","smtp":"b","inbox":"c","dns":"d"}',
        '{"pid":0,"endpoint_url":"x","region":"a","smtp":"b","inbox":"c","dns":"d"}',
        '{"pid":-1,"endpoint_url":"x","region":"a","smtp":"b","inbox":"c","dns":"d"}',
    ],
)
def test_a_file_that_describes_no_stack_is_named_and_may_be_removed(tmp_path: Path, text: str) -> None:
    # Process 0 is the reader's own group, -1 everybody: neither may ever reach a kill.
    state_file(tmp_path).write_text(text)
    with pytest.raises(LocalStackError, match=r"stack\.json .*; remove it"):
        read_state(tmp_path)


def test_a_state_directory_that_is_a_file_holds_no_stack(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert read_state(tmp_path / "file") is None
    assert not is_held(tmp_path / "file")


def test_the_lock_tells_whether_a_stack_is_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    with lock_file(tmp_path).open("w") as lock:
        assert not is_held(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


async def test_down_ends_no_stranger_who_got_the_id_of_a_killed_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number))
    write_state(tmp_path, RUNNING)
    assert await take_down(tmp_path) is False
    assert set(killed) <= {0}
    assert read_state(tmp_path) is None


async def test_down_tells_whose_stack_it_cannot_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    write_state(tmp_path, RUNNING)
    with lock_file(tmp_path).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LocalStackError, match="belongs to another user"):
            await take_down(tmp_path)
