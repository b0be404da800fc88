"""`empathctl suppress`: what is added is listed and counts, what is removed is gone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from empath.control import suppress_commands
from empath.control.__main__ import run
from empath.testing.memory_suppressions import MemorySuppressions


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemorySuppressions:
    store = MemorySuppressions()

    class Target:
        @asynccontextmanager
        async def suppressions(self) -> AsyncIterator[MemorySuppressions]:
            yield store

    monkeypatch.setattr(suppress_commands, "find_target", lambda _: Target())
    return store


def test_an_address_is_added_listed_and_removed(
    store: MemorySuppressions, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["suppress", "add", "Ann@Example.com", "--days", "3", "--note", "asked for it"]) == 0
    assert run(["suppress", "add", "ann@example.com", "--days", "2"]) == 0
    assert (
        capsys.readouterr().out == "ann@example.com is on the list\nann@example.com is on the list already\n"
    )
    assert run(["suppress", "list", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["suppressions"]
    assert (entry["address"], entry["origin"], entry["note"]) == (
        "ann@example.com",
        "operator",
        "asked for it",
    )
    assert run(["suppress", "list"]) == 0
    assert "asked for it\n1 addresses" in capsys.readouterr().out
    assert run(["suppress", "remove", "ANN@example.com"]) == 0
    assert run(["suppress", "remove", "ann@example.com"]) == 1
    assert store.entries == {}


def test_what_is_no_address_is_2(store: MemorySuppressions) -> None:
    assert run(["suppress", "add", "no address"]) == 2
    assert store.entries == {}
