"""NOTIFY x outcome x next hop with or without DSN x RET x UTF-8: which reports there are, and what they are.

Every cell is a message through the whole relay in memory, and the mail that its sender gets back. What is
expected stands in a table, by RFC 3461 §4.1, §5.2 and §6; nothing here asks the code that decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage, Message

import pytest
from flufl.bounce import all_failures

from empath.domain.address import parse_mailbox
from empath.domain.envelope import Recipient
from empath.domain.outcome import Deferred, Failed
from empath.domain.reply import Reply
from empath.dsn.parse import parse_report
from empath.testing.memory_dialer import ReceivedMessage, ScriptedDialer
from empath.testing.relay import HOSTNAME, MemoryRelay

UNKNOWN = Failed(Reply.heard(550, "5.1.1 <bob>: no such user"))
BUSY = Deferred(Reply.heard(451, "4.7.1 try again later"))

NOTIFY: Mapping[str, tuple[str, ...] | None] = {
    "nothing": None,
    "NEVER": ("NEVER",),
    "FAILURE": ("FAILURE",),
    "DELAY": ("DELAY",),
    "SUCCESS": ("SUCCESS",),
    "all": ("SUCCESS", "FAILURE", "DELAY"),
}

# Reports by outcome and NOTIFY; in the last two, `relayed` is only for next hops without DSN.
FAILED, DELAYED, RELAYED = "failed", "delayed", "relayed"
EXPECTED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "refused": {
        "nothing": (FAILED,),
        "NEVER": (),
        "FAILURE": (FAILED,),
        "DELAY": (),
        "SUCCESS": (),
        "all": (FAILED,),
    },
    "expired": {
        "nothing": (DELAYED, FAILED),
        "NEVER": (),
        "FAILURE": (FAILED,),
        "DELAY": (DELAYED,),
        "SUCCESS": (),
        "all": (DELAYED, FAILED),
    },
    "late, then sent": {
        "nothing": (DELAYED,),
        "NEVER": (),
        "FAILURE": (),
        "DELAY": (DELAYED,),
        "SUCCESS": (RELAYED,),
        "all": (DELAYED, RELAYED),
    },
    "sent": {
        "nothing": (),
        "NEVER": (),
        "FAILURE": (),
        "DELAY": (),
        "SUCCESS": (RELAYED,),
        "all": (RELAYED,),
    },
}

STATUS = {
    ("refused", FAILED): "5.1.1",
    ("expired", FAILED): "5.4.7",
    ("expired", DELAYED): "4.7.1",
    ("late, then sent", DELAYED): "4.7.1",
    ("late, then sent", RELAYED): "2.0.0",
    ("sent", RELAYED): "2.0.0",
}
DIAGNOSTIC = {
    FAILED: "smtp; 550 5.1.1 <bob>: no such user",
    DELAYED: "smtp; 451 4.7.1 try again later",
    RELAYED: "smtp; 250 2.0.0 Accepted",
}


@dataclass(frozen=True)
class Names:
    """The same mail in ASCII and beyond."""

    sender: str
    recipient: str
    orcpt: str
    original_recipient: str
    final_recipient: str
    content: bytes
    status_type: str
    headers_type: str
    message_type: str


ASCII = Names(
    sender="ann@a.test",
    recipient="bob@b.test",
    orcpt="rfc822;Bob+2B1@first.test",
    original_recipient="rfc822;Bob+1@first.test",
    final_recipient="rfc822; bob@b.test",
    content=b"Subject: hello\r\nFrom: ann@a.test\r\n\r\nHello.\r\n",
    status_type="message/delivery-status",
    headers_type="text/rfc822-headers",
    message_type="message/rfc822",
)
UTF8 = Names(
    sender="änn@a.test",
    recipient="bøb+1@b.test",
    orcpt="utf-8;B\\x{F8}b\\x{2B}1@first.test",
    original_recipient="utf-8;Bøb\\x{2B}1@first.test",
    final_recipient="utf-8; bøb\\x{2B}1@b.test",
    content="Subject: Grüße\r\nFrom: änn@a.test\r\n\r\nHällo.\r\n".encode(),
    status_type="message/global-delivery-status",
    headers_type="message/global-headers",
    message_type="message/global",
)

CELLS = list(itertools.product(EXPECTED, NOTIFY, (False, True), (None, "HDRS", "FULL"), (ASCII, UTF8)))


def cell_name(cell: tuple[str, str, bool, str | None, Names]) -> str:
    outcome, notify, dsn, ret, names = cell
    hop = "DSN" if dsn else "no DSN"
    return f"{outcome}-{notify}-{hop}-{ret}-{'UTF-8' if names is UTF8 else 'ASCII'}"


async def sent_back(
    outcome: str, notify: str, dsn: bool, ret: str | None, names: Names
) -> tuple[list[ReceivedMessage], list[ReceivedMessage]]:
    """What a message's sender gets, and what its recipient does."""
    dialer = ScriptedDialer()
    hop = dialer.host("b.test")
    hop.dsn = dsn
    match outcome:
        case "refused":
            hop.outcome = UNKNOWN
        case "expired":
            hop.outcome = BUSY
        case "late, then sent":
            # 1 + 2 + 4 + ... + 128 minutes, give or take a fifth: the ninth is late.
            hop.outcomes[names.recipient] = [BUSY] * 9
    relay = MemoryRelay(dialer=dialer)
    relay.control.items["*"] = {**relay.control.items["*"], "retry": {"expiry": 12 * 3600.0, "jitter": 0.0}}
    recipient = Recipient(mailbox=parse_mailbox(names.recipient), notify=NOTIFY[notify], orcpt=names.orcpt)
    is_utf8 = names is UTF8
    await relay.submit(
        names.sender,
        [recipient],
        names.content,
        ret=ret,
        envid="QQ+2D31",
        smtputf8=is_utf8,
        eight_bit=is_utf8,
    )
    await relay.run()
    assert relay.spool.objects == {}
    return (
        [message for message in dialer.messages if message.endpoint.host == "a.test"],
        [message for message in dialer.messages if message.endpoint.host == "b.test"],
    )


@pytest.mark.parametrize("cell", CELLS, ids=cell_name)
async def test_the_reports_are_those_of_the_table(cell: tuple[str, str, bool, str | None, Names]) -> None:
    outcome, notify, dsn, ret, names = cell
    reports, taken = await sent_back(*cell)
    expected = EXPECTED[outcome][notify]
    if dsn:
        expected = tuple(action for action in expected if action != RELAYED)
    assert [parse_report(report.content).recipients[0].action for report in reports] == list(expected)
    for action, report in zip(expected, reports, strict=True):
        assert report.reverse_path == ""
        assert report.recipients == (names.sender,)
        check_report(report.content, action, outcome, ret, names)
    assert len(taken) == (1 if "sent" in outcome else 0)
    for message in taken:
        assert (message.told is not None) is dsn
        if message.told is not None:
            asked = NOTIFY[notify]
            assert message.told.notify == ({names.recipient: asked} if asked else {})
            assert message.told.orcpt == {names.recipient: names.orcpt}
            assert (message.told.envid, message.told.ret) == ("QQ+2D31", ret)


def check_report(content: bytes, action: str, outcome: str, ret: str | None, names: Names) -> None:
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert [defect for part in message.walk() for defect in part.defects] == []
    whole = ret == "FULL" and action == FAILED
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        names.status_type,
        names.message_type if whole else names.headers_type,
    ]
    per_message, per_recipient = fields_of(content)
    assert per_message == {
        "Original-Envelope-Id": "QQ-31",
        "Reporting-MTA": f"dns; {HOSTNAME}",
        "Received-From-MTA": "dns; client.test ([127.0.0.1])",
        "Arrival-Date": per_message["Arrival-Date"],
    }
    times = {"Last-Attempt-Date"} | ({"Will-Retry-Until"} if action == DELAYED else set())
    diagnostic = DIAGNOSTIC[DELAYED] if outcome == "expired" else DIAGNOSTIC[action]
    assert per_recipient == {
        "Original-Recipient": names.original_recipient,
        "Final-Recipient": names.final_recipient,
        "Action": action,
        "Status": STATUS[outcome, action],
        "Remote-MTA": "dns; b.test",
        "Diagnostic-Code": diagnostic,
        **{name: per_recipient[name] for name in times},
    }
    parsed = parse_report(content)
    (recipient,) = parsed.recipients
    assert recipient.final_recipient == names.recipient
    header, _, _ = names.content.partition(b"\r\n\r\n")
    assert parsed.original_message == (names.content if whole else b"")
    assert parsed.original_headers == (b"" if whole else header + b"\r\n")
    assert names.recipient in parsed.text
    check_times(action, outcome, parsed.arrival_date, recipient.last_attempt, recipient.will_retry_until)
    # Other programs' readers know the ASCII types.
    if names is ASCII:
        found = all_failures(message_from_bytes(content))
        expected = frozenset({b"Bob+1@first.test"})
        assert found == (
            (expected if action == DELAYED else frozenset()),
            (expected if action == FAILED else frozenset()),
        )


def check_times(
    action: str, outcome: str, arrival: datetime | None, last: datetime | None, until: datetime | None
) -> None:
    assert arrival is not None
    assert last is not None
    assert arrival.tzinfo is UTC
    waited = last - arrival
    if action == DELAYED:
        assert timedelta(hours=4) <= waited < timedelta(hours=5)
        assert until == arrival + timedelta(hours=12)
    elif outcome in ("refused", "sent"):
        assert waited < timedelta(minutes=1)
    elif outcome == "expired":
        assert timedelta(hours=12) <= waited < timedelta(hours=12, minutes=2)


def fields_of(content: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """The fields of the two groups, by the standard library, whatever their type is called."""
    start = content.index(b"delivery-status\r\nContent-Transfer-Encoding")
    start = content.index(b"\r\n\r\n", start) + 4
    status = content[start : content.index(b"\r\n--=_empath", start)]
    first, second = status.rstrip(b"\r\n").split(b"\r\n\r\n")
    return _fields(first), _fields(second)


def _fields(group: bytes) -> dict[str, str]:
    block: Message = message_from_bytes(group + b"\r\n\r\n", policy=policy.compat32)
    return {name: str(value).encode("utf-8", "surrogateescape").decode() for name, value in block.raw_items()}


def test_there_are_cells_enough() -> None:
    assert len(CELLS) == 288
