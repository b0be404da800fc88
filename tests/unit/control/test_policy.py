"""`empathctl policy`: what is wrong is refused with the field and the reason, and nothing is written then."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from empath.control import policy_commands
from empath.control.__main__ import run
from empath.control.errors import BadUsage
from empath.control.policies import read_policy_name, read_settings
from empath.domain.audit_chain import Block
from empath.domain.errors import ControlTrouble
from empath.pipeline.operator_log import OperatorLog
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.faults import Faults
from empath.testing.memory_audit import MemoryAudit
from empath.testing.memory_control import MemoryControl
from empath.testing.memory_policies import MemoryPolicies


@dataclass
class MemoryTarget:
    control: MemoryControl = field(default_factory=MemoryControl)
    audit: MemoryAudit = field(default_factory=MemoryAudit)
    faults: Faults = field(default_factory=Faults)
    ids: SequentialIds = field(default_factory=SequentialIds)

    @asynccontextmanager
    async def policies(self) -> AsyncIterator[MemoryPolicies]:
        yield self.faults.wrap("policies", MemoryPolicies(self.control), ControlTrouble)

    @asynccontextmanager
    async def operator_log(self) -> AsyncIterator[OperatorLog]:
        yield OperatorLog(self.audit, ManualClock(), self.ids, "arn:aws:iam::1:user/ann")

    def lines(self) -> list[dict[str, Any]]:
        blocks = [Block.decode(content) for content in self.audit.objects.values()]
        return [json.loads(line) for block in blocks for line in block.lines]


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    target = MemoryTarget()
    monkeypatch.setattr(policy_commands, "find_target", lambda _: target)
    return target


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_fields_are_set_one_by_one_beside_those_that_are_there(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["policy", "set", "Partner.Example", "tls=required", "retry.expiry=86400"]) == 0
    assert capsys.readouterr().out == (
        "partner.example sets tls=required retry.expiry=86400; in force within 30 seconds\n"
    )
    assert run(["policy", "set", "partner.example", "rate=10/s", "retry.max_attempts=3", "--json"]) == 0
    settings = {"tls": "required", "retry": {"expiry": 86400, "max_attempts": 3}, "rate": "10/s"}
    assert told(capsys)["policy"]["settings"] == settings
    assert target.control.items == {"partner.example": settings}


def test_a_file_can_take_the_place_of_everything(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target.control.items["b.test"] = {"tls": "required"}
    monkeypatch.setattr("sys.stdin", io.StringIO('{"route": {"kind": "sink"}}'))
    assert run(["policy", "set", "b.test", "--file", "-", "--replace"]) == 0
    assert target.control.items["b.test"] == {"route": {"kind": "sink"}}
    monkeypatch.setattr("sys.stdin", io.StringIO("[1]"))
    assert run(["policy", "set", "b.test", "--file", "-"]) == 2
    assert "standard input should hold a JSON object" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words", "fault"),
    [
        (
            "b.test",
            ["retry.max_attempts=0"],
            "retry.max_attempts: Input should be greater than or equal to 1",
        ),
        ("b.test", ["retry.expiry=999999999"], "retry.expiry: Input should be less than or equal to 2592000"),
        ("b.test", ["port=smtp"], "port: Input should be a valid integer"),
        (
            "b.test",
            ["tls=maybe"],
            "tls: Input should be 'opportunistic', 'required', 'verified' or 'disabled'",
        ),
        ("b.test", ["rate=fast"], "rate.limit: write so many messages in a unit of time"),
        ("b.test", ["max_connections=0"], "max_connections: Input should be greater than or equal to 1"),
        ("b.test", ['allow_addresses=["10.0.0.1/8"]'], "allow_addresses.0: a network is needed"),
        ("b.test", ["tls_name=mx.b.test"], "tls_name is looked at only where tls is verified"),
        ("b.test", ["circuit.failures=-1"], "circuit.failures: Input should be greater than"),
        (
            "b.test",
            ["retry.expirey=5"],
            "retry.expirey: there is no such setting; did you mean retry.expiry?",
        ),
        ("b.test", ["route.kind=pigeon"], "route: Input tag 'pigeon' found using 'kind' does not match"),
        (
            "tenant:crm",
            ["suppression.days=0"],
            "suppression.days: Input should be greater than or equal to 1",
        ),
        ("tenant:crm", ["tls=required"], "tls: there is no such setting"),
        ("tenant:crm", ["reports.template.subject=$nothing"], "reports.template.subject: "),
        ("*", ["on_ambiguous=shrug"], "on_ambiguous: Input should be 'retry', 'hold' or 'fail'"),
    ],
)
def test_an_impossible_value_is_refused_with_its_field_and_the_reason(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str], name: str, words: list[str], fault: str
) -> None:
    assert run(["policy", "set", name, *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"empathctl: policy {name}: ")
    assert fault in captured.err
    assert captured.out == ""
    assert target.control.items == target.control.tenants == {}


def test_a_domain_is_judged_together_with_everybody(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.control.items["*"] = {"tls": "verified"}
    assert run(["policy", "set", "b.test", "tls_name=mx.b.test"]) == 0
    assert run(["policy", "set", "*", "tls=required"]) == 2
    assert "with it policy b.test would be wrong: policy: tls_name is looked at" in capsys.readouterr().err
    assert run(["policy", "unset", "*", "--all"]) == 2
    assert target.control.items["*"] == {"tls": "verified"}


def test_what_a_wrong_policy_has_broken_already_does_not_stop_a_change_of_everybody(
    target: MemoryTarget,
) -> None:
    target.control.items["b.test"] = {"port": "none"}
    assert run(["policy", "set", "*", "port=26"]) == 0


def test_the_settings_in_force_are_shown_with_who_says_so(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.control.items = {
        "*": {"retry": {"expiry": 7200}, "route": {"kind": "lmtp", "hosts": [{"host": "a.test"}]}},
        "b.test": {"tls": "required", "route": {"kind": "sink"}},
    }
    assert run(["policy", "show", "B.test", "--json"]) == 0
    document = told(capsys)
    fields = {each["field"]: (each["value"], each["from"]) for each in document["fields"]}
    assert document["name"] == "b.test"
    assert fields["tls"] == ("required", "b.test")
    assert fields["retry.expiry"] == (7200, "*")
    assert fields["port"] == (25, "default")
    assert fields["route.kind"] == ("sink", "b.test")
    assert "route.hosts" not in fields
    assert run(["policy", "show", "tenant:crm"]) == 0
    assert "suppression.days" in capsys.readouterr().out


def test_a_wrong_policy_is_told_and_can_be_replaced_or_removed(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.control.items = {"b.test": "no map", "c.test": {"port": 0}, "d.test": {"port": 26}}  # type: ignore[dict-item]
    assert run(["policy", "check"]) == 1
    shown = capsys.readouterr().out
    assert "b.test: settings: not a map" in shown
    assert "c.test: port: Input should be greater than or equal to 1" in shown
    assert "d.test" not in shown
    assert run(["policy", "list"]) == 0
    assert "cannot be read: settings: not a map" in capsys.readouterr().out
    assert run(["policy", "show", "b.test"]) == 1
    target.control.items["*"] = {"port": 0}
    assert run(["policy", "show", "d.test"]) == 1
    assert "policy *: port: Input should be" in capsys.readouterr().err
    del target.control.items["*"]
    assert run(["policy", "set", "b.test", "port=26"]) == 1
    assert "policy set --replace" in capsys.readouterr().err
    assert run(["policy", "set", "b.test", "port=26", "--replace"]) == 0
    assert run(["policy", "unset", "c.test", "--all"]) == 0
    assert run(["policy", "check", "--json"]) == 0


def test_fields_are_taken_back_one_by_one_and_an_empty_policy_is_gone(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.control.items["b.test"] = {"retry": {"expiry": 7200, "jitter": 0.5}, "port": 26}
    assert run(["policy", "unset", "b.test", "retry.expiry"]) == 0
    assert target.control.items["b.test"] == {"retry": {"jitter": 0.5}, "port": 26}
    assert run(["policy", "unset", "b.test", "retry.factor"]) == 2
    assert "it sets retry.jitter, port" in capsys.readouterr().err
    assert run(["policy", "unset", "b.test", "retry.jitter", "port"]) == 0
    assert target.control.items == {}
    assert run(["policy", "unset", "b.test", "--all"]) == 1
    assert "there is no policy b.test" in capsys.readouterr().err


def test_a_dry_run_judges_and_writes_nothing(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["policy", "set", "b.test", "port=26", "--dry-run"]) == 0
    assert "b.test sets port=26; nothing was written" in capsys.readouterr().out
    assert run(["policy", "set", "b.test", "port=0", "--dry-run"]) == 2
    assert target.control.items == {}
    assert target.lines() == []


def test_a_change_of_somebody_else_meanwhile_is_not_undone(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: Any, **__: Any) -> bool:
        return False

    monkeypatch.setattr(MemoryPolicies, "put", lost)
    assert run(["policy", "set", "b.test", "port=26"]) == 1
    assert "somebody else changed policy b.test" in capsys.readouterr().err


def test_a_change_is_in_the_audit_trail_with_what_was_before_and_after(target: MemoryTarget) -> None:
    assert run(["policy", "set", "b.test", "port=26"]) == 0
    assert run(["policy", "set", "b.test", "port=27"]) == 0
    asked, done = target.lines()[-2:]
    assert (asked["type"], asked["action"], asked["result"]) == ("OperatorAction", "policy set", "asked")
    assert (done["target"], done["result"]) == ("policy#b.test", "done")
    assert (done["before"], done["after"]) == ('{"port": 26}', '{"port": 27}')
    assert done["operator"] == "arn:aws:iam::1:user/ann"


def test_a_table_that_does_not_answer_is_one_line(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.faults.fail("policies.all", times=None)
    assert run(["policy", "list"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("*", "*"),
        ("Example.COM.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("tenant:CRM", "tenant:CRM"),
        ("tenant:*", "tenant:*"),
    ],
)
def test_a_name_is_written_as_workers_look_for_it(text: str, name: str) -> None:
    assert read_policy_name(text) == name


@pytest.mark.parametrize("text", ["", "a..b", "tenant:", "tenant:a\nb", "a b", "example.com*"])
def test_a_name_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadUsage):
        read_policy_name(text)


@pytest.mark.parametrize("words", [["tls"], ["=5"], ["a..b=5"], ["a=1", "a=2"], ["a=1", "a.b=2"], [".a=1"]])
def test_what_is_no_setting_is_refused(words: list[str]) -> None:
    with pytest.raises(BadUsage):
        read_settings(words)
