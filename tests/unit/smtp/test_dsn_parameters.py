"""RET, ENVID, NOTIFY and ORCPT (RFC 3461 §4, RFC 6533 §3)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.envelope import Recipient
from empath.smtp import events
from empath.smtp.dsn_parameters import DSN
from empath.smtp.extensions import STANDARD, MailParameters, Offer, RcptParameters
from empath.smtp.faults import CommandFault
from empath.smtp.limits import Limits
from empath.smtp.server import ServerSession

LIMITS = Limits()
OFFER = Offer((*STANDARD, DSN), LIMITS)


@pytest.mark.parametrize(
    ("text", "ret", "envid"),
    [
        ("RET=FULL", "FULL", None),
        ("ret=hdrs ENVID=QQ314159", "HDRS", "QQ314159"),
        ("ENVID=a+2Bb+3Dc+20d", None, "a+2Bb+3Dc+20d"),
        ("ENVID=" + "x" * 100, None, "x" * 100),
    ],
)
def test_of_a_message(text: str, ret: str | None, envid: str | None) -> None:
    assert OFFER.mail_parameters(text) == MailParameters(ret=ret, envid=envid)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        *("RET", "RET=", "RET=BODY", "RET=FULL RET=FULL", "RET=FULL RET=HDRS", "ENVID", "ENVID=" + "x" * 101),
        *("ENVID=a+2b", "ENVID=a+", "ENVID=a+0", "ENVID=a+0D+0Ab", "ENVID=a+FFb", "ENVID=a ENVID=b"),
        "ENVID=\u00e4",
    ],
)
def test_what_is_wrong_with_a_message_is_501(text: str) -> None:
    with pytest.raises(CommandFault) as fault:
        OFFER.mail_parameters(text)
    assert str(fault.value.reply).startswith("501 5.5.4 Bad value or form of parameter ")


@pytest.mark.parametrize(
    ("value", "notify"),
    [
        ("NEVER", ("NEVER",)),
        ("success", ("SUCCESS",)),
        ("FAILURE,DELAY", ("FAILURE", "DELAY")),
        ("DELAY,SUCCESS,FAILURE", ("DELAY", "SUCCESS", "FAILURE")),
    ],
)
def test_what_a_sender_wants_to_hear_of_a_recipient(value: str, notify: tuple[str, ...]) -> None:
    assert OFFER.rcpt_parameters(f"NOTIFY={value}") == RcptParameters(notify=notify)


@pytest.mark.parametrize(
    "value",
    [
        *("", "ALWAYS", "NEVER,FAILURE", "FAILURE,NEVER", "NEVER,NEVER", "FAILURE,FAILURE", "FAILURE,"),
        *(",DELAY", "SUCCESS;DELAY", "SUCCESS,RELAYED"),
    ],
)
def test_never_stands_alone_and_nothing_twice(value: str) -> None:
    with pytest.raises(CommandFault):
        OFFER.rcpt_parameters(f"NOTIFY={value}")


@pytest.mark.parametrize(
    "orcpt",
    [
        "rfc822;bob@two.example",
        "rfc822;bob+2Btag@two.example",
        "RFC822;+22bob+20smith+22@two.example",
        "x400;/C=US/".replace("=", "+3D"),
        "utf-8;bob@two.example",
        r"utf-8;b\x{F6}b@two.example",
        r"UTF-8;\x{1F4E7}@two.example",
        r"utf-8;bob\x{2B}tag\x{3D}\x{5C}\x{20}@two.example",
        "utf-8;b\u00f6b@two.example",
        "rfc822;" + "x" * 493,
    ],
)
def test_an_original_recipient_is_kept_as_it_was_written(orcpt: str) -> None:
    assert OFFER.rcpt_parameters(f"ORCPT={orcpt}") == RcptParameters(orcpt=orcpt)


@pytest.mark.parametrize(
    "orcpt",
    [
        "bob@two.example",
        ";bob@two.example",
        "rfc822;",
        "rfc822",
        "rfc822;a+2bb",
        "rfc822;a+0D+0ABcc:+20x",
        "rfc822;a+00",
        "rfc822;b\u00f6b@two.example",
        "rf(c;a",
        "rfc822;" + "x" * 494,
        r"utf-8;b\x{f6}b",
        r"utf-8;b\x{F}b",
        r"utf-8;b\x{41}b",
        r"utf-8;b\x{0D}\x{0A}b",
        r"utf-8;b\x{85}b",
        r"utf-8;b\x{D800}b",
        r"utf-8;b\x{2028}b",
        r"utf-8;b\x{110000}b",
        r"utf-8;b\b",
        "utf-8;a+2Bb",
    ],
)
def test_an_original_recipient_that_could_break_a_report_is_501(orcpt: str) -> None:
    with pytest.raises(CommandFault) as fault:
        OFFER.rcpt_parameters(f"ORCPT={orcpt}")
    assert fault.value.reply.code == 501


@given(st.text(max_size=40), st.sampled_from(["RET", "ENVID"]), st.sampled_from(["NOTIFY", "ORCPT"]))
def test_any_text_ends_in_parameters_or_a_fault(text: str, of_mail: str, of_rcpt: str) -> None:
    for value in (text, f"rfc822;{text}", f"utf-8;{text}"):
        with contextlib.suppress(CommandFault):
            OFFER.mail_parameters(f"{of_mail}={value}")
        with contextlib.suppress(CommandFault):
            OFFER.rcpt_parameters(f"{of_rcpt}={value}")


def test_they_come_with_the_envelope() -> None:
    session = ServerSession("mx.example", OFFER, LIMITS)
    session.receive(b"EHLO x\r\nMAIL FROM:<> RET=HDRS ENVID=QQ+2B1\r\n")
    session.receive(b"RCPT TO:<b@two.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bx@three.example\r\n")
    session.receive(b"RCPT TO:<c@two.example>\r\nDATA\r\n")
    while not isinstance(event := session.next_event(), events.MessageBegins):
        assert event is session.awaiting
        session.accept()
    envelope = event.envelope
    assert b"250 DSN\r\n" in session.replies()
    assert (envelope.ret, envelope.envid) == ("HDRS", "QQ+2B1")
    first, second = envelope.recipients
    assert (first.notify, first.orcpt) == (("SUCCESS", "DELAY"), "rfc822;b+2Bx@three.example")
    assert (second.notify, second.orcpt) == (None, None)


def test_an_original_recipient_beyond_ascii_needs_smtputf8() -> None:
    session = ServerSession("mx.example", OFFER, LIMITS)
    for parameter, heard in (("", b"501 5.5.4 "), (" SMTPUTF8", b"250 2.1.5 ")):
        session.receive(f"EHLO x\r\nMAIL FROM:<>{parameter}\r\n".encode())
        session.receive("RCPT TO:<b@two.example> ORCPT=utf-8;b\u00f6b@two.example\r\n".encode())
        while session.next_event() is not None:
            if session.awaiting is not None:
                session.accept()
        assert session.replies().splitlines()[-1].startswith(heard)


def test_what_they_add_to_a_job_counts_against_its_room() -> None:
    session = ServerSession("mx.example", OFFER, LIMITS)
    session.receive(b"EHLO x\r\nMAIL FROM:<>\r\n")
    recipients: list[Recipient] = []
    for number in range(600):
        orcpt = b"rfc822;" + b"\\" * 480
        session.receive(
            b"RCPT TO:<b%d@two.example> NOTIFY=SUCCESS,DELAY ORCPT=%b\r\n" % (number % 400, orcpt)
        )
        while (event := session.next_event()) is not None:
            if session.awaiting is not None:
                session.accept()
            if isinstance(event, events.RcptTo):
                recipients.append(event.recipient)
    kept = {recipient.mailbox: recipient for recipient in recipients}.values()
    octets = sum(len(recipient.model_dump_json(exclude_none=True)) + 1 for recipient in kept)
    assert 100 < len(kept) < 400
    assert octets <= LIMITS.max_recipient_octets


def test_they_are_unknown_where_dsn_is_not_offered() -> None:
    for parameter in ("NOTIFY=NEVER", "ORCPT=rfc822;a@one.example"):
        with pytest.raises(CommandFault) as fault:
            Offer(STANDARD, LIMITS).rcpt_parameters(parameter)
        assert fault.value.reply.code == 555
