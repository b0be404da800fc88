"""Who is told what, and how often, over the real stages and in-memory ports."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from empath.domain.address import parse_mailbox
from empath.domain.envelope import Recipient
from empath.domain.errors import QueueTrouble, TransientRefusal
from empath.domain.outcome import Deferred, Failed, RecipientOutcome
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.dsn.model import ParsedReport
from empath.dsn.parse import parse_report
from empath.net.mapping import unreachable
from empath.pipeline.accept import Additions
from empath.pipeline.jobs import DsnJob
from empath.ports import QueueName
from empath.testing.faults import WorkerDied
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

UNKNOWN = Failed(Reply.heard(550, "5.1.1 no such user"))
BUSY = Deferred(Reply.heard(451, "4.7.1 try again later"))
FULL = Deferred(Reply.heard(452, "4.2.2 mailbox full"))
EVERYTHING = ("SUCCESS", "FAILURE", "DELAY")


@pytest.fixture
def dialer() -> ScriptedDialer:
    return ScriptedDialer()


@pytest.fixture
def relay(dialer: ScriptedDialer) -> MemoryRelay:
    return MemoryRelay(dialer=dialer)


def to(address: str, *notify: str) -> Recipient:
    return Recipient(mailbox=parse_mailbox(address), notify=notify or None)


def reports(dialer: ScriptedDialer, host: str = "a.test") -> list[ParsedReport]:
    return [parse_report(message.content) for message in dialer.messages if message.endpoint.host == host]


def told(report: ParsedReport) -> dict[str, str]:
    return {recipient.final_recipient: recipient.action.value for recipient in report.recipients}


async def states(relay: MemoryRelay, message_id: str) -> dict[str, str]:
    """What became of the reports about a message."""
    found: dict[str, str] = {}
    for record in await relay.ledger.deliveries(message_id):
        found |= record.reports
    return found


def refusing(dialer: ScriptedDialer, *hosts: str) -> None:
    for host in hosts or ("b.test",):
        dialer.host(host).outcome = UNKNOWN


# Several recipients.


async def test_recipients_with_the_same_event_share_a_report_and_others_have_their_own(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    script: Mapping[str, RecipientOutcome | list[RecipientOutcome]] = {
        "lost1@b.test": UNKNOWN,
        "lost2@b.test": UNKNOWN,
        "never@b.test": UNKNOWN,
        "late1@b.test": [BUSY] * 10,
        "late2@b.test": [FULL] * 10,
        "silent@b.test": [BUSY] * 10,
    }
    dialer.host("b.test").outcomes.update(script)
    asked = {
        "never@b.test": ("NEVER",),
        "silent@b.test": ("FAILURE",),
        "sent@b.test": EVERYTHING,
        "sent2@b.test": EVERYTHING,
    }
    everybody = [*script, "sent@b.test", "sent2@b.test", "plain@b.test"]
    await relay.submit("ann@a.test", [to(address, *asked.get(address, ())) for address in everybody])
    await relay.run()
    assert sorted(sorted(told(report).items()) for report in reports(dialer)) == [
        [("late1@b.test", "delayed"), ("late2@b.test", "delayed")],
        [("lost1@b.test", "failed"), ("lost2@b.test", "failed")],
        [("sent2@b.test", "relayed"), ("sent@b.test", "relayed")],
    ]
    (late,) = [report for report in reports(dialer) if "late1@b.test" in told(report)]
    assert {str(recipient.status) for recipient in late.recipients} == {"4.7.1", "4.2.2"}


async def test_a_next_hop_with_dsn_answers_for_its_own_and_another_destination_does_not(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    dialer.host("b.test").dsn = True
    message_id = await relay.submit("ann@a.test", [to("x@b.test", *EVERYTHING), to("y@c.test", *EVERYTHING)])
    await relay.run()
    assert [told(report) for report in reports(dialer)] == [{"y@c.test": "relayed"}]
    by_address = {
        address: known.passed_on
        for record in await relay.ledger.deliveries(message_id)
        for address, known in record.recipients.items()
    }
    assert by_address == {"x@b.test": True, "y@c.test": None}


async def test_where_mail_has_arrived_it_is_delivered_and_not_relayed(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    relay.control.items["c.test"] = {"route": {"kind": "sink"}}
    await relay.submit("ann@a.test", [to("x@b.test", "SUCCESS"), to("y@c.test", "SUCCESS"), "z@c.test"])
    await relay.run()
    assert sorted(next(iter(told(report).items())) for report in reports(dialer)) == [
        ("x@b.test", "relayed"),
        ("y@c.test", "delivered"),
    ]


# Policy.


async def test_policy_of_a_tenant_switches_reports_off_for_it_alone(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    refusing(dialer)
    relay.control.tenants["shop"] = {"reports": {"enabled": False}}
    silent = await relay.submit("ann@a.test", ["x@b.test"], additions=Additions(tenant="shop"))
    loud = await relay.submit("ann@a.test", ["y@b.test"], additions=Additions(tenant="bank"))
    await relay.run()
    assert await states(relay, silent) == {"failed-1": "switched_off"}
    assert await states(relay, loud) == {"failed-1": "sent"}
    assert [told(report) for report in reports(dialer)] == [{"y@b.test": "failed"}]
    assert relay.metrics.counts["report_suppressed"] == 1
    assert relay.spool.objects == {}


async def test_policy_sends_reports_elsewhere(relay: MemoryRelay, dialer: ScriptedDialer) -> None:
    refusing(dialer)
    relay.control.tenants["*"] = {"reports": {"send_to": "bounces@d.test"}}
    await relay.submit("ann@a.test", ["x@b.test"])
    nobodys = await relay.submit(None, ["x@b.test"])
    await relay.run()
    assert reports(dialer, "a.test") == []
    assert [report.to for report in reports(dialer, "d.test")] == ["<bounces@d.test>"]
    assert await states(relay, nobodys) == {}, "the null reverse-path gets no report, wherever they are sent"


async def test_a_template_of_policy_is_in_the_report(relay: MemoryRelay, dialer: ScriptedDialer) -> None:
    refusing(dialer)
    template = {"subject": "Pech", "body": "Nicht zugestellt:\n$recipients", "recipient": "* $address"}
    relay.control.tenants["*"] = {"reports": {"template": template}}
    await relay.submit("ann@a.test", ["x@b.test"])
    await relay.run()
    (report,) = reports(dialer)
    assert report.subject == "Pech"
    assert "* x@b.test" in report.text


@pytest.mark.parametrize("missing", [0, 1])
async def test_a_whole_message_is_returned_up_to_a_size(
    relay: MemoryRelay, dialer: ScriptedDialer, missing: int
) -> None:
    refusing(dialer)
    content, prepend = b"Subject: x\r\n\r\nyes\r\n", "Trace: 1\r\n"
    whole = prepend.encode() + content
    relay.control.tenants["*"] = {"reports": {"full_message_up_to": len(whole) - missing}}
    await relay.submit("ann@a.test", ["x@b.test"], content, ret="FULL", additions=Additions(prepend=prepend))
    await relay.run()
    (report,) = reports(dialer)
    assert report.original_message == (b"" if missing else whole)
    assert report.original_headers == (b"Trace: 1\r\nSubject: x\r\n" if missing else b"")


@pytest.mark.parametrize("ret", ["FULL", "HDRS", None])
async def test_what_cannot_travel_as_it_is_is_not_returned_whole(
    relay: MemoryRelay, dialer: ScriptedDialer, ret: str | None
) -> None:
    refusing(dialer)
    await relay.submit("ann@a.test", ["x@b.test"], b"Subject: x\r\n\r\nbare\rcr and \0\r\n", ret=ret)
    await relay.run()
    (report,) = reports(dialer)
    assert report.original_message == b""
    assert report.original_headers == b"Subject: x\r\n"


# Loops.


async def test_an_address_gets_so_many_reports_an_hour_and_the_others_in_later_hours(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    refusing(dialer)
    relay.control.tenants["*"] = {"reports": {"max_per_hour": 3}}
    began = relay.clock.now()
    ids = [await relay.submit("ann@A.test", [f"x{number}@b.test"]) for number in range(8)]
    other = await relay.submit("bob@a.test", ["x@b.test"])
    await relay.run()
    for message_id in (*ids, other):
        assert await states(relay, message_id) == {"failed-1": "sent"}
    dates = [
        parsedate_to_datetime(message_from_bytes(message.content)["Date"])
        for message in dialer.messages
        if message.endpoint.host.lower() == "a.test"
    ]
    assert Counter((date - began) // timedelta(hours=1) for date in dates) == {0: 4, 1: 3, 2: 2}
    assert relay.metrics.counts["report_suppressed"] == 0
    assert relay.spool.objects == {}


async def test_a_report_that_waited_too_long_for_its_turn_is_written_down_as_not_sent(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    refusing(dialer)
    relay.control.tenants["*"] = {"reports": {"max_per_hour": 1}}
    ids = [await relay.submit("ann@a.test", [f"x{number}@b.test"]) for number in range(16)]
    await relay.run()
    found = Counter([(await states(relay, message_id))["failed-1"] for message_id in ids])
    assert found == {"sent": 13, "over_limit": 3}
    assert relay.metrics.counts["report_suppressed"] == 3
    assert relay.spool.objects == {}


async def test_a_report_that_was_begun_is_not_held_back_when_its_job_comes_again(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    refusing(dialer)
    relay.control.tenants["*"] = {"reports": {"max_per_hour": 1}}
    message_id = await relay.submit("ann@a.test", ["x@b.test"])
    await relay.work(QueueName.ACCEPTED)
    await relay.work(QueueName.DELIVERY)
    relay.faults.fail("queue.send", times=1, error=QueueTrouble("the job of the report is not sent"))
    await relay.run()
    assert await states(relay, message_id) == {"failed-1": "sent"}
    assert len(reports(dialer)) == 1


@pytest.mark.parametrize(
    ("fields", "notify", "failed", "delayed"),
    [
        ("", (), True, True),
        ("Auto-Submitted: no\r\n", (), True, True),
        ("Auto-Submitted: auto-generated\r\n", (), True, False),
        ("Auto-Submitted: auto-generated\r\n", ("DELAY", "FAILURE"), True, True),
        ("Auto-Submitted: auto-replied\r\n", (), False, False),
        ("Auto-Submitted: auto-replied\r\n", ("DELAY", "FAILURE"), True, True),
        ("Content-Type: multipart/report; boundary=b\r\n", (), False, False),
    ],
)
async def test_machines_are_told_what_they_asked_for_and_little_else(
    relay: MemoryRelay,
    dialer: ScriptedDialer,
    fields: str,
    notify: Sequence[str],
    failed: bool,
    delayed: bool,
) -> None:
    dialer.host("b.test").outcome = BUSY
    content = f"Subject: x\r\n{fields}\r\nHello.\r\n".encode()
    message_id = await relay.submit("ann@a.test", [to("x@b.test", *notify)], content)
    await relay.run()
    actions = [next(iter(told(report).values())) for report in reports(dialer)]
    assert actions == ["delayed"] * delayed + ["failed"] * failed
    found = (await states(relay, message_id)).values()
    assert sorted(found) == ["automatic"] * (2 - len(actions)) + ["sent"] * len(actions)
    assert relay.spool.objects == {}


# Delays.


@pytest.mark.parametrize(("after", "expected"), [(60.0, 1), (None, 0), (5 * 86_400.0, 0)])
async def test_policy_says_when_a_delay_is_one(
    relay: MemoryRelay, dialer: ScriptedDialer, after: float | None, expected: int
) -> None:
    dialer.host("b.test").outcomes["x@b.test"] = [BUSY] * 3
    settings: dict[str, Any] = {**relay.control.items["*"], "retry": {"delay_report_after": after}}
    relay.control.items["*"] = settings
    await relay.submit("ann@a.test", ["x@b.test"])
    await relay.run()
    assert [told(report) for report in reports(dialer)] == [{"x@b.test": "delayed"}] * expected


async def test_a_report_composed_late_speaks_of_the_attempt_that_it_is_about(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    dialer.host("b.test").outcomes["x@b.test"] = [BUSY, FULL]
    relay.control.items["*"] = {**relay.control.items["*"], "retry": {"delay_report_after": 1.0}}
    relay.faults.fail("control.tenant_policy", times=4)
    message_id = await relay.submit("ann@a.test", ["x@b.test"])
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    assert record.reports == {"delayed-2": "sent"}
    (message,) = [message for message in dialer.messages if message.endpoint.host == "a.test"]
    composed_at = parsedate_to_datetime(message_from_bytes(message.content)["Date"])
    assert composed_at > record.attempts[2].started, "it was sent by then"
    (report,) = reports(dialer)
    (recipient,) = report.recipients
    assert report.arrival_date == record.received_at
    assert recipient.diagnostic == "452 4.2.2 mailbox full"
    assert recipient.last_attempt == record.attempts[1].started.replace(microsecond=0)
    assert recipient.will_retry_until == record.expires


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (
            unreachable(ConnectionRefusedError(errno.ECONNREFUSED, "x"), "b.test[127.0.0.1]:25"),
            ("x-empath", "The error is:"),
        ),
        (TransientRefusal(BUSY.reply, Reason.NEXT_HOP_REPLY), ("smtp", "The last reply of b.test was:")),
    ],
)
async def test_what_nobody_said_is_nobodys_reply_when_time_is_over_either(
    relay: MemoryRelay, dialer: ScriptedDialer, refusal: TransientRefusal, expected: tuple[str, str]
) -> None:
    """RFC 3464 §2.3.6: `smtp` is for replies, and most mail that expires never had one."""
    dialer.host("b.test").refusal = refusal
    relay.control.items["*"] = {**relay.control.items["*"], "retry": {"expiry": 600.0}}
    await relay.submit("ann@a.test", ["x@b.test"])
    await relay.run()
    (report,) = reports(dialer)
    (recipient,) = report.recipients
    assert (str(recipient.status), recipient.remote_mta) == ("5.4.7", "b.test")
    kind, words = expected
    assert recipient.diagnostic_type == kind
    assert words in report.text


async def test_what_is_no_mail_server_is_none_in_a_report(relay: MemoryRelay, dialer: ScriptedDialer) -> None:
    relay.control.items["c.test"] = {"route": {"kind": "sink"}}
    await relay.submit("ann@a.test", [to("y@c.test", "SUCCESS")])
    await relay.run()
    ((recipient,),) = [report.recipients for report in reports(dialer)]
    assert (recipient.remote_mta, recipient.diagnostic_type) == (None, "x-empath")


async def test_a_report_speaks_of_the_attempt_that_was_recorded(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    """Not of a worker's that died, and whose attempt has the same number."""
    dialer.host("b.test").outcome = UNKNOWN
    relay.faults.fail("ledger.record", error=WorkerDied())
    message_id = await relay.submit("ann@a.test", ["x@b.test"])
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    died, recorded = record.attempts
    assert (died.attempt, died.duration) == (recorded.attempt, None)
    ((recipient,),) = [report.recipients for report in reports(dialer)]
    assert recipient.last_attempt == recorded.started.replace(microsecond=0)


async def test_the_job_of_a_report_goes_by_what_an_earlier_try_has_stored(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    refusing(dialer)
    dialer.host("a.test").dsn = True
    await relay.submit("ann@a.test", ["x@b.test"])
    await relay.work(QueueName.ACCEPTED)
    await relay.work(QueueName.DELIVERY)
    relay.faults.fail("queue.send", times=1, error=QueueTrouble("the report is stored, its job is not sent"))
    await relay.work(QueueName.DSN)
    relay.control.tenants["*"] = {"reports": {"template": {"body": "Ä much shorter text: $recipients"}}}
    await relay.run()
    (message,) = [message for message in dialer.messages if message.endpoint.host == "a.test"]
    assert b"much shorter" not in message.content
    assert message.told is not None
    assert message.told.size == len(message.content)
    assert message.told.eight_bit is not message.content.isascii()


async def test_a_report_of_an_unknown_kind_fails_its_job_and_nothing_else(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    refusing(dialer)
    message_id = await relay.submit("ann@a.test", ["x@b.test"])
    await relay.work(QueueName.ACCEPTED)
    await relay.work(QueueName.DELIVERY)
    (record,) = await relay.ledger.deliveries(message_id)
    job = DsnJob(message_id=message_id, delivery=record.delivery, event="vanished-1")
    await relay.reporting.report(job)
    assert await states(relay, message_id) == {"failed-1": "owed"}
