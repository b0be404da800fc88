"""MAIL and RCPT on the wire, by what the next hop offers."""

from __future__ import annotations

import pytest

from empath.smtp.client import Forward, Offer
from empath.smtp.client.envelope import is_sayable, mail_command, rcpt_command
from tests.unit.smtp.client.talking import ANN, mail

DSN = Offer(frozenset({"DSN"}))
UTF8 = Offer(frozenset({"DSN", "SMTPUTF8"}))


def test_report_parameters_go_to_a_next_hop_with_dsn() -> None:
    asked = mail(envid="QQ314159", ret="HDRS")
    to = Forward(ANN, ANN, ("SUCCESS", "DELAY"), "rfc822;ann+2Bx@example.test")
    assert mail_command(asked, DSN) == b"MAIL FROM:<sender@example.test> RET=HDRS ENVID=QQ314159\r\n"
    assert rcpt_command(to, DSN) == (
        b"RCPT TO:<ann@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;ann+2Bx@example.test\r\n"
    )


def test_report_parameters_do_not_go_anywhere_else() -> None:
    to = Forward(ANN, ANN, ("NEVER",), "rfc822;ann@example.test")
    assert mail_command(mail(envid="x", ret="FULL"), Offer()) == b"MAIL FROM:<sender@example.test>\r\n"
    assert rcpt_command(to, Offer()) == b"RCPT TO:<ann@example.test>\r\n"


def test_what_nobody_asked_for_is_not_said() -> None:
    assert mail_command(mail(), DSN) == b"MAIL FROM:<sender@example.test>\r\n"
    assert rcpt_command(Forward(ANN, ANN), DSN) == b"RCPT TO:<ann@example.test>\r\n"


@pytest.mark.parametrize("value", ["a b", "a\r\nRSET", "a=b", "", "\x7f"])
def test_a_parameter_that_would_break_the_command_is_left_out(value: str) -> None:
    to = Forward(ANN, ANN, (value,), value)
    assert rcpt_command(to, DSN) == b"RCPT TO:<ann@example.test>\r\n"
    assert mail_command(mail(envid=value, ret=value), DSN) == b"MAIL FROM:<sender@example.test>\r\n"


def test_an_international_original_recipient_is_said_in_ascii() -> None:
    to = Forward(ANN, ANN, None, "utf-8;jörg@bücher.test")
    expected = b"RCPT TO:<ann@example.test> ORCPT=utf-8;j\\x{F6}rg@b\\x{FC}cher.test\r\n"
    assert rcpt_command(to, DSN) == expected
    assert rcpt_command(to, UTF8) == expected


def test_smtputf8_is_said_where_an_address_or_the_message_needs_it() -> None:
    assert mail_command(mail(), UTF8).endswith(b"example.test>\r\n")
    assert mail_command(mail(smtputf8=True), UTF8).endswith(b"> SMTPUTF8\r\n")
    assert mail_command(mail(["jörg@example.test"]), UTF8).endswith(b"> SMTPUTF8\r\n")


@pytest.mark.parametrize(
    "address", ["", "a@b.test", '"a b"@c.test', '"a>b<"@c.test', '"\\""@c.test', "ö@ü.test"]
)
def test_addresses_that_can_be_said(address: str) -> None:
    assert is_sayable(address)


@pytest.mark.parametrize(
    "address",
    [
        "a@b.test> SIZE=1",
        "a b@c.test",
        "a@b.test\r\nRSET",
        "a\x00@b",
        "<a@b>",
        '"a@b',
        '"a\n"@b',
        "\ud800@b",
        "a\x7f@b",
    ],
)
def test_addresses_that_would_end_a_path_early_cannot(address: str) -> None:
    assert not is_sayable(address)
