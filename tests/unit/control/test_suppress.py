"""`empathctl suppress`: what is added is listed and counts, what is removed is gone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from empath.control import suppress_commands
from empath.control.__main__ import run
from empath.domain.redaction import Redaction
from empath.testing.memory_suppressions import MemorySuppressions
from tests.unit.control.audited import AuditedTarget


@dataclass
class MemoryTarget(AuditedTarget):
    store: MemorySuppressions = field(default_factory=MemorySuppressions)

    @asynccontextmanager
    async def suppressions(self) -> AsyncIterator[MemorySuppressions]:
        yield self.store


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    target = MemoryTarget()
    monkeypatch.setattr(suppress_commands, "find_target", lambda _: target)
    return target


@pytest.fixture
def store(target: MemoryTarget) -> MemorySuppressions:
    return target.store


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
    assert "asked for it\n1 address\n" in capsys.readouterr().out
    assert run(["suppress", "remove", "ANN@example.com"]) == 0
    assert run(["suppress", "remove", "ann@example.com"]) == 1
    assert store.entries == {}


def test_what_is_no_address_is_2(store: MemorySuppressions) -> None:
    assert run(["suppress", "add", "no address"]) == 2
    assert store.entries == {}


def test_every_change_is_in_the_audit_trail(target: MemoryTarget) -> None:
    run(["suppress", "add", "ann@example.com"])
    run(["suppress", "add", "ann@example.com", "--days", "2"])
    run(["suppress", "remove", "ann@example.com"])
    run(["suppress", "remove", "ann@example.com"])
    run(["suppress", "list"])
    assert target.results() == [
        (action, "ann@example.com", result)
        for action in ("suppress add", "suppress add", "suppress remove", "suppress remove")
        for result in ("asked", "done")
    ]
    assert [(line.before, line.after) for line in target.lines() if line.result == "done"] == [
        (None, "until removed"),
        (None, "on the list already, for as long"),
        ("on the list", "not on the list"),
        ("not on the list", "not on the list"),
    ]


def test_without_an_audit_line_nothing_is_changed(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.trail_faults.fail("audit.put_new")
    assert run(["suppress", "add", "ann@example.com"]) == 1
    assert "nothing was done, for the audit trail cannot be written" in capsys.readouterr().err
    assert target.store.entries == {}


def test_the_trail_leaves_out_what_it_is_set_to_leave_out(target: MemoryTarget) -> None:
    target.redaction = Redaction.of(["recipient"])
    run(["suppress", "add", "ann@example.com"])
    assert {line.target for line in target.lines()} == {"[REDACTED]@example.com"}
    assert all("ann@" not in line.line() for line in target.lines())
