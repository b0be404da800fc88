"""`empathctl dns`: every step to an address is shown, and where it was known from; looking writes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from empath.control import dns_commands
from empath.control.__main__ import run
from empath.control.errors import ControlError
from empath.control.target import DnsPorts
from empath.domain.errors import ControlTrouble
from empath.local.state import RunningStack, write_state
from empath.ports import DnsAnswer, MailExchanger
from empath.testing.clock import START
from empath.testing.dns_server import DnsServer
from empath.testing.faults import Faults
from empath.testing.memory_control import MemoryControl
from empath.testing.memory_dns_cache import MemoryDnsCache
from empath.testing.zones import Node, Zones
from tests.unit.control.audited import AuditedTarget

ZONES: Zones = {
    "example.test": Node(mx=[(10, "mx.test"), (20, "private.test")], secure=True),
    "xn--bcher-kva.test": Node(mx=[(10, "mx.test")]),
    "mx.test": Node(a=["93.184.216.1"], aaaa=["2606::1"]),
    "private.test": Node(a=["10.0.0.1"]),
    "inside.test": Node(mx=[(10, "private.test")]),
    "null.test": Node(mx=[(0, "")]),
    "lame.test": Node(fault="servfail"),
    "evil.test": Node(cname="a\\027\\091b.test"),
}
ANSWER = DnsAnswer(
    name="example.test",
    rdtype="MX",
    exists=True,
    canonical="example.test",
    records=("5 mx.test",),
    authenticated=False,
    asked_at=START,
    fresh_until=datetime.now(UTC) + timedelta(hours=1),
)


@dataclass
class MemoryTarget(AuditedTarget):
    nameservers: tuple[str, ...]
    control: MemoryControl = field(default_factory=MemoryControl)
    store: MemoryDnsCache = field(default_factory=MemoryDnsCache)
    faults: Faults = field(default_factory=Faults)

    @asynccontextmanager
    async def dns(self) -> AsyncIterator[DnsPorts]:
        yield DnsPorts(self.control, self.faults.wrap("dns", self.store, ControlTrouble))


@pytest.fixture(scope="module")
def server() -> Iterator[DnsServer]:
    """In a loop of its own: a command runs one itself."""
    loop = asyncio.new_event_loop()
    server = DnsServer(ZONES)
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(server.stop())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
def target(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    target = MemoryTarget((server.nameserver,))
    monkeypatch.setattr(dns_commands, "find_target", lambda _: target)
    return target


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_target(_: Path) -> None:
        raise ControlError("nothing runs")

    monkeypatch.setattr(dns_commands, "find_target", find_target)


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_every_step_of_a_lookup_is_shown_with_where_it_was_known_from(
    target: MemoryTarget, server: DnsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dns", "lookup", "Example.TEST.", "--json"]) == 0
    document = told(capsys)
    assert document["domain"] == "example.test"
    assert document["nameservers"] == [server.nameserver]
    mx = document["mx"]
    assert (mx["type"], mx["source"], mx["trouble"]) == ("MX", "asked", None)
    assert mx["answer"]["records"] == ["10 mx.test", "20 private.test"]
    assert mx["answer"]["authenticated"]
    assert 55 <= mx["answer"]["ttl"] <= 60
    assert document["site"] == "mx.test,private.test"
    assert [host["host"] for host in document["hosts"]] == ["mx.test", "private.test"]
    assert [question["source"] for question in document["hosts"][0]["questions"]] == ["asked", "asked"]
    assert document["hosts"][0]["addresses"] == [
        {"address": "93.184.216.1", "refused": None},
        {"address": "2606::1", "refused": None},
    ]
    assert document["hosts"][1]["addresses"] == [{"address": "10.0.0.1", "refused": "private"}]
    assert [entry["address"] for entry in document["endpoints"]] == ["93.184.216.1", "2606::1"]
    assert (document["refusal"], document["overridden"], document["order"]) == (None, False, "ipv4_first")


def test_a_person_is_shown_the_same(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dns", "lookup", "example.test"]) == 0
    words = capsys.readouterr().out
    assert "MX            10 mx.test, 20 private.test   [asked just now, for 60 s more, DNSSEC]" in words
    assert "10.0.0.1 is refused: private" in words
    assert "try 1         mx.test[93.184.216.1]:25" in words


def test_looking_writes_nothing(target: MemoryTarget) -> None:
    assert run(["dns", "lookup", "example.test"]) == 0
    assert {call for call in target.faults.calls if not call.endswith(("orders", "answer"))} == set()
    assert target.store.kept == {}


def test_what_processes_share_is_what_is_shown(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.store.kept["example.test"] = ANSWER
    assert run(["dns", "lookup", "example.test", "--json"]) == 0
    document = told(capsys)
    assert (document["mx"]["source"], document["mx"]["answer"]["records"]) == ("shared", ["5 mx.test"])


@pytest.mark.parametrize(
    ("domain", "status", "reason"),
    [
        ("nosuch.test", "5.1.2", "no_such_domain"),
        ("null.test", "5.1.10", "null_mx"),
        ("lame.test", "4.4.3", "dns_trouble"),
        ("inside.test", "5.4.4", "address_not_allowed"),
        ("[10.0.0.1]", "5.4.4", "address_not_allowed"),
        ("☃.test", "5.1.2", "no_such_domain"),
        ("relay.test", "5.4.6", "loop"),
    ],
)
def test_what_mail_would_be_refused_with_is_told_and_ends_with_1(
    domain: str, status: str, reason: str, target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.store.kept["relay.test"] = replace(ANSWER, name="relay.test", records=("5 relay.test",))
    assert run(["dns", "lookup", domain, "--hostname", "relay.test", "--json"]) == 1
    document = told(capsys)
    assert (document["refusal"]["status"], document["refusal"]["reason"]) == (status, reason)
    assert document["endpoints"] == []
    assert run(["dns", "lookup", domain, "--hostname", "relay.test"]) == 1
    assert f"{status}" in capsys.readouterr().out


def test_policy_has_its_say(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    target.control.items["inside.test"] = {"allow_addresses": ["10.0.0.0/8"], "port": 2525}
    target.control.items["example.test"] = {"addresses": "ipv6_only"}
    assert run(["dns", "lookup", "inside.test", "--json"]) == 0
    assert told(capsys)["endpoints"] == [{"host": "private.test", "address": "10.0.0.1", "port": 2525}]
    assert run(["dns", "lookup", "example.test", "--json"]) == 0
    assert [entry["address"] for entry in told(capsys)["endpoints"]] == ["2606::1"]


def test_mail_that_goes_another_way_by_policy_is_said_to(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    target.control.items["example.test"] = {"route": {"kind": "sink"}}
    assert run(["dns", "lookup", "example.test", "--json"]) == 0
    assert told(capsys)["route"] == "sink"
    assert run(["dns", "lookup", "example.test"]) == 0
    assert "policy        sends this mail by sink" in capsys.readouterr().out


def test_strangers_words_reach_no_terminal_as_they_are(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dns", "lookup", "evil.test"]) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_an_override_is_set_shown_and_taken_away(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = ["MX.test,bücher.test", "[93.184.216.9]", "2606::7"]
    assert run(["dns", "override", "Bücher.TEST", *hosts, "--json"]) == 0
    shown = told(capsys)["override"]
    assert shown["domain"] == "xn--bcher-kva.test"
    assert shown["mx"] == ["10 mx.test", "10 xn--bcher-kva.test", "20 [93.184.216.9]", "30 [IPv6:2606::7]"]
    assert target.store.said.overrides["xn--bcher-kva.test"].exchangers[0] == MailExchanger(10, "mx.test")
    assert run(["dns", "lookup", "bücher.test", "--json"]) == 0
    document = told(capsys)
    assert (document["mx"]["source"], document["overridden"]) == ("override", True)
    assert {entry["address"] for entry in document["endpoints"]} == {
        *("93.184.216.1", "2606::1", "93.184.216.9", "2606::7")
    }
    assert run(["dns", "list", "--json"]) == 0
    assert told(capsys)["overrides"] == [shown]
    for _ in range(2):
        assert run(["dns", "override", "bücher.test", "--remove", "--json"]) == 0
        assert told(capsys)["override"] == {"domain": "xn--bcher-kva.test", "mx": None, "set_at": None}
    assert dict(target.store.said.overrides) == {}


def test_a_person_is_told_of_overrides_too(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dns", "override", "example.test", "mx.test"]) == 0
    assert "mail for example.test goes to 10 mx.test" in capsys.readouterr().out
    assert run(["dns", "list"]) == 0
    assert "10 mx.test" in capsys.readouterr().out
    assert run(["dns", "override", "example.test", "--remove"]) == 0
    assert "DNS has its say about example.test again" in capsys.readouterr().out


def test_answers_are_listed_up_to_a_limit(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dns", "list"]) == 0
    assert capsys.readouterr().out == "No answer is shared.\n"
    for number in range(3):
        target.store.kept[f"d{number}.test"] = replace(ANSWER, name=f"d{number}.test")
    target.store.kept["d2.test"] = replace(ANSWER, name="d2.test", exists=False, records=())
    assert run(["dns", "list", "--json"]) == 0
    document = told(capsys)
    assert [answer["domain"] for answer in document["answers"]] == ["d0.test", "d1.test", "d2.test"]
    assert not document["has_more"]
    assert run(["dns", "list", "--limit", "2"]) == 0
    assert "... and more" in capsys.readouterr().out
    assert run(["dns", "list"]) == 0
    assert "does not exist" in capsys.readouterr().out


def test_what_is_cleared_is_gone_and_said_to_all(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("example.test", "other.test", "third.test"):
        target.store.kept[name] = replace(ANSWER, name=name)
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert run(["dns", "clear", "Example.test", "--json"]) == 0
    assert told(capsys) == {"domain": "example.test", "deleted": 1}
    assert target.store.said.forgets("example.test", before)
    assert set(target.store.kept) == {"other.test", "third.test"}
    assert run(["dns", "clear", "--all"]) == 0
    assert "everything is forgotten (2 shared answers deleted)" in capsys.readouterr().out
    assert target.store.said.forgets("anything.test", before)


def test_trouble_is_told(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    for call in ("override", "clear", "answers"):
        target.faults.fail(f"dns.{call}")
    commands = (["override", "a.test", "mx.test"], ["clear", "a.test"], ["list"])
    for command in commands:
        assert run(["dns", *command]) == 1
        captured = capsys.readouterr()
        assert "injected" in captured.err
        assert captured.out == ""


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["lookup"],
        ["lookup", "a..b"],
        ["lookup", ""],
        ["lookup", "[10.0.0]"],
        ["lookup", "a.test", "--nameserver", "ns.a.test"],
        ["clear"],
        ["clear", "a.test", "--all"],
        ["clear", "[10.0.0.1]"],
        ["override", "a.test"],
        ["override", "a.test", "mx.test", "--remove"],
        ["override", "[10.0.0.1]", "mx.test"],
        ["override", "a.test", "mx..test"],
        ["override", "a.test", "mx test"],
        ["override", "a.test", "mx.test,"],
        ["override", "a.test", "."],
        ["override", "a.test", *["mx.test"] * 21],
        ["list", "--limit", "0"],
    ],
    ids=lambda arguments: " ".join(arguments[:5]),
)
def test_a_wrong_command_line_ends_with_2_before_anybody_is_asked(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dns", *arguments]) == 2
    captured = capsys.readouterr()
    assert "nothing runs" not in captured.err
    assert captured.err + captured.out


def test_the_whole_way_to_the_table_and_back(
    server: DnsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "EMPATH_"))]:
        monkeypatch.delenv(name)
    aws = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    aws.start()
    try:
        endpoint = "http://{}:{}".format(*aws.get_host_and_port())
        boto3.client(
            "dynamodb",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        ).create_table(
            TableName="control-of-dns",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        )
        outputs = {"ControlTable": "control-of-dns"}  # moto is one for the whole process
        stack = RunningStack(os.getpid(), endpoint, "us-east-1", "h:2525", "i:1", server.nameserver, outputs)
        write_state(tmp_path, stack)
        where = ["--state-dir", str(tmp_path), "--json"]
        assert run(["dns", "override", "nosuch.test", "mx.test", *where]) == 0
        capsys.readouterr()
        assert run(["dns", "lookup", "nosuch.test", *where]) == 0
        document = told(capsys)
        assert document["nameservers"] == [server.nameserver]
        assert [entry["address"] for entry in document["endpoints"]] == ["93.184.216.1", "2606::1"]
        assert run(["dns", "clear", "--all", *where]) == 0
        assert told(capsys)["deleted"] == 0
        assert run(["dns", "list", *where]) == 0
        assert [each["domain"] for each in told(capsys)["overrides"]] == ["nosuch.test"]
    finally:
        aws.stop()


def test_overrides_and_clearings_are_in_the_audit_trail(target: MemoryTarget) -> None:
    run(["dns", "override", "a.test", "mx1.test,mx2.test", "mx3.test"])
    run(["dns", "override", "a.test", "--remove"])
    run(["dns", "clear", "a.test"])
    run(["dns", "clear", "--all"])
    run(["dns", "list"])
    done = [line for line in target.lines() if line.result == "done"]
    assert [(line.action, line.target, line.before, line.after) for line in done] == [
        ("dns override", "a.test", "as DNS says", "10 mx1.test, 10 mx2.test, 20 mx3.test"),
        ("dns override", "a.test", "10 mx1.test, 10 mx2.test, 20 mx3.test", "as DNS says"),
        ("dns clear", "a.test", None, "0 shared answers deleted"),
        ("dns clear", "everything", None, "0 shared answers deleted"),
    ]
