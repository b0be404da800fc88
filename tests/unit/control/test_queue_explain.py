"""`empathctl queue explain`: for whatever holds mail back, the rule, until when, and what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from empath.control import queue_commands
from empath.control.__main__ import run
from empath.control.queue_explaining import Explanation, explain
from empath.control.queue_facts import Facts, gather
from empath.control.target import DnsPorts
from empath.domain.circuit import Circuit
from empath.domain.delivery_state import State
from empath.domain.errors import ControlTrouble
from empath.domain.outcome import Deferred, Failed
from empath.domain.policy import DomainPolicy, read_policy
from empath.domain.reason import Reason
from empath.domain.records import Attempt, DeliveryRecord, Lease, Operation, RecipientRecord
from empath.domain.reply import Reply
from empath.domain.suppression import Suppression
from empath.ports import DnsAnswer, DnsOverride, MailExchanger, QueueName
from empath.testing.clock import START
from empath.testing.faults import Faults
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.memory_dns_cache import MemoryDnsCache
from empath.testing.memory_gates import MemoryGates
from empath.testing.memory_ledger import MemoryLedger
from empath.testing.memory_suppressions import MemorySuppressions
from empath.testing.relay import MemoryRelay

S = timedelta(seconds=1)
SITE = "mx.b.test"
OPEN = Circuit(
    open_until=START + 300 * S, opened_at=START - 60 * S, openings=2, cause="421 4.3.2 \x1b[31mgo away"
)


def delivery(state: State = State.DEFERRED, **more: Any) -> DeliveryRecord:
    known = RecipientRecord(state=state, reason=more.pop("known_reason", None))
    return DeliveryRecord.model_validate(
        {
            "message_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "delivery": "delivery#b.test",
            "domain": "b.test",
            "siblings": 1,
            "received_at": START,
            "expires": START + 86_400 * S,
            "recipients": {"bob@b.test": known},
            "site": SITE,
            **more,
        }
    )


def explained(record: DeliveryRecord, now: datetime = START, **facts: Any) -> Explanation:
    known = Facts(None, [record], policies={"b.test": DomainPolicy()})
    for name, value in facts.items():
        setattr(known, name, value)
    (explanation,) = explain(known, now)
    return explanation


ATTEMPT = Attempt(
    attempt=1,
    started=START,
    owner="w",
    duration=0.5,
    next_hop="mx.b.test[192.0.2.1]:25",
    reply=Reply.heard(451, "4.7.1 try again in 300 seconds"),
    reason=Reason.NEXT_HOP_REPLY,
    tls="TLSv1.3",
    retry_after=300,
)
DUE = START + 300 * S
ENTRY = Suppression(address="bob@b.test", since=START, origin="operator")


@pytest.mark.parametrize(
    ("record", "facts", "rule", "words", "until", "advice"),
    [
        pytest.param(
            delivery(attempt=2, attempts=(ATTEMPT,), next_attempt_at=DUE),
            {}, "retry", "the pause before attempt 2 (the next hop asked for 300 s)", DUE, "queue retry",
            id="pause",
        ),
        pytest.param(
            delivery(attempt=2, next_attempt_at=START + 86_400 * S),
            {}, "retry", "which will be the last", START + 86_400 * S, "queue retry",
            id="last",
        ),
        pytest.param(
            delivery(reason=Reason.SLOT_RESERVED, next_attempt_at=DUE),
            {}, "gate", "its slot in the rate limit", DUE, "queue retry",
            id="slot",
        ),
        pytest.param(
            delivery(State.QUEUED),
            {"circuits": {SITE: OPEN}}, "circuit", "go away", OPEN.open_until, f"circuit reset {SITE}",
            id="circuit",
        ),
        pytest.param(
            delivery(reason=Reason.CIRCUIT_OPEN, next_attempt_at=DUE),
            {"circuits": {SITE: OPEN}}, "circuit", "is open since", OPEN.open_until, f"circuit reset {SITE}",
            id="circuit, in the ledger",
        ),
        pytest.param(
            delivery(lease=Lease(owner="w", until=DUE)),
            {}, "lease", "a worker has it now", DUE, None,
            id="lease",
        ),
        pytest.param(
            delivery(State.HELD, operation=Operation(id="x", action="hold", operator="arn:ann", at=START)),
            {}, "held", "an operator holds it: hold by arn:ann at 2026-03-01 12:00:00 UTC",
            None, "queue release",
            id="held",
        ),
        pytest.param(
            delivery(State.HELD, known_reason=Reason.AMBIGUOUS),
            {}, "held", "on_ambiguous", None, "queue release",
            id="ambiguous",
        ),
        pytest.param(
            delivery(State.FAILED, known_reason=Reason.SUPPRESSED),
            {"suppressions": {"bob@b.test": ENTRY}},
            "suppression", "is in force", None, "suppress remove bob@b.test",
            id="suppressed",
        ),
    ],
)  # fmt: skip
def test_the_rule_that_holds_it_back_is_named(
    record: DeliveryRecord, facts: dict[str, Any], rule: str, words: str, until: Any, advice: str | None
) -> None:
    explanation = explained(record, **facts)
    (held_back,) = explanation.held_back
    assert held_back.name == rule
    assert words in held_back.text
    assert held_back.until == until
    assert any(advice in each for each in explanation.advice) if advice else not explanation.advice


def test_a_circuit_is_named_beside_the_pause_that_is_longer() -> None:
    later = START + 3600 * S
    record = delivery(attempt=2, attempts=(ATTEMPT,), next_attempt_at=later, reason=Reason.NEXT_HOP_REPLY)
    explanation = explained(record, circuits={SITE: OPEN})
    assert [(rule.name, rule.until) for rule in explanation.held_back] == [
        ("circuit", OPEN.open_until),
        ("retry", later),
    ]


@pytest.mark.parametrize(
    "record",
    [
        delivery(State.QUEUED),
        delivery(reason=Reason.FROZEN, next_attempt_at=DUE),
        delivery(reason=Reason.SLOT_RESERVED, next_attempt_at=DUE),
    ],
)
def test_a_freeze_is_told_before_every_other_gate(record: DeliveryRecord) -> None:
    explanation = explained(record, policies={"b.test": read_policy({"frozen": True})})
    assert [rule.name for rule in explanation.held_back] == ["frozen"]
    assert explanation.advice == ["let mail go there again: empathctl queue unfreeze b.test"]


@pytest.mark.parametrize("state", [State.SENT, State.FAILED, State.EXPIRED, State.CANCELLED, State.QUEUED])
def test_what_nothing_holds_back_says_so(state: State) -> None:
    explanation = explained(delivery(state))
    assert (explanation.held_back, explanation.advice) == ([], [])


def test_a_delivery_that_is_queued_for_long_may_have_lost_its_job() -> None:
    explanation = explained(delivery(State.QUEUED), START + 901 * S)
    assert any("queue retry" in each for each in explanation.advice)


MX = DnsAnswer("b.test", "MX", True, "b.test", ("10 mx.b.test",), True, START, START + 60 * S)
OVERRIDE = DnsOverride((MailExchanger(10, "mx.c.test"),), START)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"answers": {"b.test": MX}}, "MX 10 mx.b.test, as DNS said 2026-03-01 12:00 UTC, proved by DNSSEC"),
        ({"answers": {"b.test": MX}, "overrides": {"b.test": OVERRIDE}}, "10 mx.c.test, as an operator says"),
        ({}, "as DNS says at the attempt"),
        ({"policies": {}}, "not known"),
        (
            {
                "policies": {
                    "b.test": read_policy({"route": {"kind": "smarthost", "hosts": [{"host": "r.test"}]}})
                }
            },
            "smarthost r.test, as policy says",
        ),
        ({"policies": {"b.test": read_policy({"route": {"kind": "sink"}})}}, "sink, as policy says"),
    ],
)
def test_where_it_goes_and_who_says_so(facts: dict[str, Any], words: str) -> None:
    assert words in explained(delivery(), **facts).route
    assert explained(delivery(), **facts).route.endswith(f"site {SITE}")


def test_what_happened_and_how_it_was_protected() -> None:
    explanation = explained(delivery(attempt=2, attempts=(ATTEMPT,), next_attempt_at=DUE))
    assert explanation.happened[0].startswith(
        "1 attempt, the last began 2026-03-01 12:00:00 UTC to mx.b.test["
    )
    assert "451 4.7.1 try again" in explanation.happened[0]
    assert explanation.tls == "policy opportunistic; the last connection was over TLSv1.3"
    assert explained(delivery(State.QUEUED)).tls == "policy opportunistic; no connection yet"
    plain = ATTEMPT.model_copy(update={"tls": None})
    assert explained(delivery(attempts=(plain,))).tls.endswith("in plain")


def test_a_hundred_recipients_take_one_line() -> None:
    recipients = {f"u{number:03}@b.test": RecipientRecord(state=State.DEFERRED) for number in range(100)}
    explanation = explained(delivery(recipients=recipients))
    assert explanation.happened[-1] == "u000@b.test, u001@b.test, u002@b.test and 97 more: DEFERRED"


# The command.


@dataclass
class MemoryTarget:
    relay: MemoryRelay
    cache: MemoryDnsCache = field(default_factory=MemoryDnsCache)
    store: MemorySuppressions = field(default_factory=MemorySuppressions)
    faults: Faults = field(default_factory=Faults)

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[MemoryLedger]:
        yield self.relay.ledger

    @asynccontextmanager
    async def gates(self) -> AsyncIterator[MemoryGates]:
        yield self.faults.wrap("gates", self.relay.gates, ControlTrouble)

    @asynccontextmanager
    async def dns(self) -> AsyncIterator[DnsPorts]:
        yield DnsPorts(self.relay.control, self.faults.wrap("dns", self.cache, ControlTrouble))

    @asynccontextmanager
    async def suppressions(self) -> AsyncIterator[MemorySuppressions]:
        yield self.store


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    dialer = ScriptedDialer()
    dialer.host("defer.test").outcome = Deferred(Reply.heard(451, "4.7.1 \x1b[2J[bold]later"))
    dialer.host("reject.test").outcome = Failed(Reply.heard(550, "5.1.1 no"))
    target = MemoryTarget(MemoryRelay(dialer=dialer))
    monkeypatch.setattr(queue_commands, "find_target", lambda _: target)
    return target


def submitted(target: MemoryTarget, *to: str) -> str:
    async def submit() -> str:
        message_id = await target.relay.submit("ann@a.test", list(to))
        await target.relay.work(QueueName.ACCEPTED)
        while await target.relay.work(QueueName.DELIVERY):
            pass
        return message_id

    return asyncio.run(submit())


def test_one_screen_tells_a_person(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    message_id = submitted(target, "bob@defer.test", "bob@reject.test", "bob@good.test")
    assert run(["queue", "explain", message_id.lower()]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 40
    assert "\x1b" not in shown
    for words in (
        "from          ann@a.test",
        "defer.test  DEFERRED",
        "451 4.7.1 ",
        "[bold]later (next_hop_reply)",
        "TLS           policy opportunistic",
        "held back by  ",
        "next          attempt 2",
        f"you can       try it now: empathctl queue retry {message_id} --domain defer.test",
        "held back by  nothing",
    ):
        assert words in shown


def test_the_same_as_json(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    message_id = submitted(target, "bob@defer.test")
    assert run(["queue", "explain", message_id, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"message_id", "deliveries", "unknown"}
    (explanation,) = document["deliveries"]
    assert set(explanation) == {
        "delivery", "domain", "status", "happened", "route", "tls", "held_back", "next", "expires", "advice",
    }  # fmt: skip
    assert (explanation["domain"], explanation["status"]) == ("defer.test", "DEFERRED")
    assert set(explanation["next"]) == {"step", "at", "text"}
    assert document["unknown"] == []


def test_what_cannot_be_read_is_said_and_the_rest_is_told(
    target: MemoryTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    message_id = submitted(target, "bob@defer.test")
    target.faults.fail("gates.circuits")
    target.faults.fail("dns.orders")
    assert run(["queue", "explain", message_id]) == 0
    shown = capsys.readouterr().out
    assert "DEFERRED" in shown
    assert "not known, circuits: injected" in shown
    assert "not known, policies and DNS: injected" in shown


async def test_facts_are_gathered_for_each_domain_and_for_who_is_suppressed() -> None:
    target = MemoryTarget(MemoryRelay())
    message_id = await target.relay.submit("ann@a.test", ["bob@b.test", "bob@bücher.test", "bob@[192.0.2.1]"])
    await target.relay.work(QueueName.ACCEPTED)
    await target.relay.control.set_policy("b.test", {"tls": "required"})
    await target.cache.override("xn--bcher-kva.test", OVERRIDE)
    await target.cache.keep(MX, forget_at=datetime(2999, 1, 1, tzinfo=UTC))
    await target.store.add(ENTRY)
    (record,) = [r for r in await target.relay.ledger.deliveries(message_id) if r.domain == "b.test"]
    failed = {"bob@b.test": RecipientRecord(state=State.FAILED, reason=Reason.SUPPRESSED)}
    target.relay.ledger._put_delivery(record.model_copy(update={"recipients": failed}))
    facts = await gather(target, message_id, START)  # type: ignore[arg-type]
    assert facts.unknown == []
    assert facts.policies["b.test"].tls == "required"
    assert {name.rpartition(".")[2] for name in facts.policies} == {"test", "1]"}
    assert list(facts.answers) == ["b.test"]
    assert list(facts.overrides.values()) == [OVERRIDE]
    assert list(facts.suppressions) == ["bob@b.test"]


def test_a_message_that_nobody_knows_is_1(target: MemoryTarget, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["queue", "explain", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]) == 1
    assert "knows no message" in capsys.readouterr().err
    assert run(["queue", "explain", "x"]) == 2
