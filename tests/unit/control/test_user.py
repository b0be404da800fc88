"""`empathctl user`: passwords are shown once or never, changes are of what was read, none is overwritten."""

from __future__ import annotations

import io
import json
import os
import string
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from empath.control import user_commands
from empath.control.__main__ import run
from empath.control.errors import ControlError
from empath.control.user_accounts import PASSWORD_LENGTH, change, new_password
from empath.domain.errors import ControlTrouble
from empath.domain.password import hash_password, verify_password
from empath.domain.redaction import Redaction
from empath.domain.user import User
from empath.local.state import RunningStack, write_state
from empath.testing.clock import START
from empath.testing.faults import Faults
from empath.testing.memory_users import MemoryUsers
from tests.unit.control.audited import AuditedTarget


@dataclass
class MemoryTarget(AuditedTarget):
    store: MemoryUsers = field(default_factory=MemoryUsers)
    faults: Faults = field(default_factory=Faults)

    @asynccontextmanager
    async def users(self) -> AsyncIterator[MemoryUsers]:
        yield self.faults.wrap("users", self.store, ControlTrouble)

    def __getitem__(self, name: str) -> User:
        return self.store.items[name]


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    target = MemoryTarget()
    monkeypatch.setattr(user_commands, "find_target", lambda _: target)
    return target


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_target(_: Path) -> None:
        raise ControlError("nothing runs")

    monkeypatch.setattr(user_commands, "find_target", find_target)


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def type_in(monkeypatch: pytest.MonkeyPatch, octets: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets), encoding="utf-8"))


def right(user: User, password: str) -> bool:
    assert user.password_hash is not None
    return verify_password(password, user.password_hash)


def test_a_new_user_gets_a_password_that_is_shown_this_once(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    before = datetime.now(UTC)
    arguments = ["--domain", "Example.com", "--domain", ".example.com", "--tenant", "Team 7"]
    assert run(["user", "add", "Ann@Example.com", *arguments, "--priority", "bulk", "--json"]) == 0
    document = told(capsys)
    user = target["ann@example.com"]
    assert right(user, document["password"])
    assert (user.domains, user.tenant, user.priority) == (("example.com", ".example.com"), "Team 7", "bulk")
    assert abs((user.created_at - before).total_seconds()) < 60
    for command in (["list"], ["show", "ann@example.com"]):
        assert run(["user", *command]) == 0
        assert run(["user", *command, "--json"]) == 0
        shown = capsys.readouterr().out
        assert "ann@example.com" in shown
        assert document["password"] not in shown
        assert "scrypt" not in shown


def test_a_person_is_shown_the_password_too(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["user", "add", "ann", "--domain", "*"]) == 0
    words = capsys.readouterr().out.split()
    assert right(target["ann"], words[words.index("generated") + 1])


def test_what_json_shows_is_what_was_published(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["user", "add", "ann", "--domain", "a.test", "--messages-per-hour", "7", "--json"]) == 0
    document = told(capsys)
    assert set(document) == {"user", "password"}
    created_at = document["user"].pop("created_at")
    assert datetime.fromisoformat(created_at) == target["ann"].created_at
    assert document["user"] == {
        "name": "ann",
        "domains": ["a.test"],
        "tenant": None,
        "priority": "normal",
        "messages_per_hour": 7,
        "has_password": True,
        "revoked_at": None,
    }
    assert run(["user", "set", "ann", "--tenant", "x", "--json"]) == 0
    assert set(told(capsys)) == {"user"}


def test_generated_passwords_are_long_plain_and_new() -> None:
    made = [new_password() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert {len(password) for password in made} == {PASSWORD_LENGTH}
    assert set("".join(made)) <= set(string.ascii_letters + string.digits) - set("0O1lI")


@pytest.mark.parametrize(
    "line", ["a password é\n", "a password é\r\n", "a password é", "a password é\nmore\n"]
)
def test_a_password_is_read_from_standard_input_and_not_shown(
    line: str, target: MemoryTarget, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, line.encode())
    assert run(["user", "add", "ann", "--domain", "*", "--password-stdin"]) == 0
    assert right(target["ann"], "a password é")
    assert "a password" not in capsys.readouterr().out
    type_in(monkeypatch, b"another one\n")
    assert run(["user", "passwd", "ann", "--password-stdin", "--json"]) == 0
    assert told(capsys)["password"] is None
    assert right(target["ann"], "another one")


@pytest.mark.parametrize("octets", [b"", b"\n", b"hunter2", b"x" * 257, b"hunter2\xff\xff", b"hunter2\0\0\n"])
def test_what_cannot_be_a_password_is_refused_without_a_word_of_it(
    octets: bytes, target: MemoryTarget, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, octets)
    assert run(["user", "add", "ann", "--domain", "*", "--password-stdin"]) == 2
    captured = capsys.readouterr()
    assert "--password-stdin" in captured.err
    assert "hunter2" not in captured.err + captured.out
    assert target.store.items == {}


def test_a_user_may_have_no_password(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["user", "add", "cert", "--domain", "*", "--no-password"]) == 0
    assert target["cert"].password_hash is None
    assert "client certificate only" in capsys.readouterr().out
    assert run(["user", "passwd", "cert", "--json"]) == 0
    assert right(target["cert"], told(capsys)["password"])
    assert run(["user", "passwd", "cert", "--no-password"]) == 0
    assert target["cert"].password_hash is None


def test_nobody_is_overwritten(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["user", "add", "ann", "--domain", "a.test"]) == 0
    before = target["ann"]
    capsys.readouterr()
    assert run(["user", "add", "ANN", "--domain", "*"]) == 1
    captured = capsys.readouterr()
    assert "user ann is there already" in captured.err
    assert captured.out == ""
    assert target["ann"] == before


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--domain", "b.test", "--domain", "*"], "domains", ("b.test", "*")),
        (["--tenant", "new"], "tenant", "new"),
        (["--no-tenant"], "tenant", None),
        (["--priority", "high"], "priority", "high"),
        (["--messages-per-hour", "500"], "messages_per_hour", 500),
        (["--default-rate"], "messages_per_hour", None),
    ],
)
def test_only_what_is_given_changes(
    arguments: list[str], field: str, value: object, target: MemoryTarget
) -> None:
    before = User(
        name="ann",
        password_hash=hash_password("x", b"saltsalt"),
        domains=("a.test",),
        tenant="old",
        messages_per_hour=7,
        created_at=START,
    )
    target.store.items["ann"] = before
    assert run(["user", "set", "Ann", *arguments]) == 0
    assert getattr(target["ann"], field) == value
    assert target["ann"].model_dump(exclude={field}) == before.model_dump(exclude={field})


def test_revoking_and_restoring_keep_everything_else(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["user", "add", "ann", "--domain", "*"]) == 0
    before = target["ann"]
    assert run(["user", "revoke", "ann"]) == 0
    revoked = target["ann"]
    assert revoked.is_revoked
    assert "revoked" in capsys.readouterr().out
    assert run(["user", "revoke", "ann", "--json"]) == 0
    assert told(capsys)["user"]["revoked_at"] is not None
    assert target["ann"] == revoked  # since the first time
    assert run(["user", "passwd", "ann"]) == 0
    assert target["ann"].is_revoked
    assert run(["user", "restore", "ann"]) == 0
    assert run(["user", "restore", "ann"]) == 0
    restored = target["ann"]
    assert restored.model_copy(update={"password_hash": before.password_hash}) == before


def test_users_are_listed_by_name(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["user", "list"]) == 0
    assert capsys.readouterr().out == "There are no users.\n"
    for name in ("bob", "ann"):
        target.store.items[name] = User(name=name, created_at=START)
    assert run(["user", "list", "--json"]) == 0
    assert [user["name"] for user in told(capsys)["users"]] == ["ann", "bob"]
    assert run(["user", "list"]) == 0
    assert "<> only" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["show"], ["set", "--priority", "high"], ["revoke"], ["restore"], ["passwd"]]
)
def test_who_is_not_there_is_told(
    arguments: list[str], target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *options = arguments
    assert run(["user", command, "nobody", *options]) == 1
    captured = capsys.readouterr()
    assert "there is no user nobody" in captured.err
    assert captured.out == ""
    assert target.store.items == {}


def test_trouble_is_told_and_no_password_shown(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.faults.fail("users.put_user")
    assert run(["user", "add", "ann", "--domain", "*"]) == 1
    captured = capsys.readouterr()
    assert "injected" in captured.err
    assert captured.out == ""


async def test_a_change_that_somebody_else_was_faster_with_is_told() -> None:
    ann = User(name="ann", created_at=START)

    class Slow(MemoryUsers):
        async def put_user(self, user: User, *, replacing: User | None = None) -> None:
            self.items["ann"] = ann.model_copy(update={"tenant": "theirs"})
            await super().put_user(user, replacing=replacing)

    with pytest.raises(ControlError, match="was changed by somebody else just now; look at it"):
        await change(Slow([ann]), "ann", {"tenant": "ours"})


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["add", "ann"],
        ["add", "a b", "--domain", "*"],
        ["add", "", "--domain", "*"],
        ["add", "ann", "--domain", "a..b"],
        ["add", "ann", "--domain", "*", "--priority", "urgent"],
        ["add", "ann", "--domain", "*", "--messages-per-hour", "0"],
        ["add", "ann", "--domain", "*", "--messages-per-hour", "many"],
        ["add", "ann", "--domain", "*", "--tenant", "a\x1b[2Jb"],
        ["add", "ann", "--domain", "*", "--password", "secret"],
        ["set", "ann"],
        ["set", "ann", "--domain", "@"],
        ["set", "ann", "--tenant", "x", "--no-tenant"],
        ["set", "ann", "--messages-per-hour", "1", "--default-rate"],
        ["show"],
        ["revoke", "a\u202eb"],
    ],
    ids=lambda arguments: ascii(" ".join(arguments)),
)
def test_a_wrong_command_line_ends_with_2_before_anybody_is_asked(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["user", *arguments]) == 2
    captured = capsys.readouterr()
    assert "nothing runs" not in captured.err
    assert captured.err + captured.out


def test_two_ways_to_a_password_are_one_too_many(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["user", "add", "ann", "--domain", "*", "--no-password", "--password-stdin"]) == 2
    assert "cannot both be meant" in capsys.readouterr().err
    assert target.store.items == {}


def test_the_whole_way_to_the_table_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "EMPATH_"))]:
        monkeypatch.delenv(name)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        boto3.client(
            "dynamodb",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        ).create_table(
            TableName="control",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        )
        outputs = {"ControlTable": "control"}
        stack = RunningStack(os.getpid(), endpoint, "us-east-1", "h:2525", "i:1", "d:1", outputs)
        write_state(tmp_path, stack)
        where = ["--state-dir", str(tmp_path), "--json"]
        assert run(["user", "add", "ann", "--domain", "*", *where]) == 0
        assert run(["user", "add", "ann", "--domain", "*", *where]) == 1
        assert run(["user", "revoke", "ann", *where]) == 0
        capsys.readouterr()
        assert run(["user", "list", *where]) == 0
        [listed] = told(capsys)["users"]
        assert listed["name"] == "ann"
        assert listed["revoked_at"] is not None
    finally:
        server.stop()


def test_every_change_of_a_user_is_in_the_audit_trail_and_no_password(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["user", "add", "ann", "--domain", "a.test", "--tenant", "Team 7", "--json"])
    secrets = [told(capsys)["password"]]
    run(["user", "set", "ann", "--domain", "b.test", "--no-tenant"])
    capsys.readouterr()
    run(["user", "passwd", "ann", "--json"])
    secrets.append(told(capsys)["password"])
    for command in (["revoke", "ann"], ["restore", "ann"], ["revoke", "nobody"], ["show", "ann"], ["list"]):
        run(["user", *command])
    lines = target.lines()
    assert [(line.action, line.target, line.result) for line in lines if line.result != "asked"] == [
        ("user add", "ann", "done"),
        ("user set", "ann", "done"),
        ("user passwd", "ann", "done"),
        ("user revoke", "ann", "done"),
        ("user restore", "ann", "done"),
        ("user revoke", "nobody", "failed"),
    ]
    assert len(lines) == 12
    of_set = next(line for line in lines if line.action == "user set" and line.result == "done")
    assert of_set.before == "domains a.test, tenant Team 7, priority normal, password set"
    assert of_set.after == "domains b.test, priority normal, password set"
    revoked = next(line for line in lines if line.action == "user revoke" and line.result == "done")
    assert "revoked_at 2" in (revoked.after or "")
    for line in lines:
        assert "scrypt" not in line.line()
        assert not any(secret in line.line() for secret in secrets)


def test_a_users_name_is_left_out_where_names_are(target: MemoryTarget) -> None:
    target.redaction = Redaction.of(["user"])
    run(["user", "revoke", "ann@example.com"])
    assert {line.target for line in target.lines()} == {"[REDACTED]"}
    assert all("ann@" not in line.line() for line in target.lines())
