"""`send`: octets as they are, every recipient's own reply, and errors that a person understands."""

import asyncio
import email
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.control.errors import BadUsage, ControlError
from empath.control.sending import (
    Receipt,
    read_address,
    read_sender,
    read_server,
    send,
    small_message,
    transport_form,
)
from empath.domain.address import Mailbox, parse_mailbox
from empath.testing.smtp_sink import DROP, SmtpSink

ANN = parse_mailbox("ann@a.test")
BOB = parse_mailbox("bob@b.test")


async def sent(sink: SmtpSink, *recipients: Mailbox, sender: Mailbox | None = ANN, content: bytes) -> Receipt:
    return await asyncio.to_thread(send, f"127.0.0.1:{sink.port}", sender, recipients or (BOB,), content)


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: x\r\n\r\n.\r\n..\r\n.a\r\n",
        b"\r\n",
        "Subject: x\r\n\r\nGrüße\r\n".encode(),
        b"a" * 998 + b"\r\n",
    ],
)
async def test_content_arrives_byte_for_byte(content: bytes) -> None:
    async with SmtpSink() as sink:
        receipt = await sent(sink, content=content)
        assert receipt.is_complete
        assert sink.accepted[0].content == content
        assert ("BODY=8BITMIME" in sink.accepted[0].parameters) is not content.isascii()


async def test_every_recipient_keeps_its_own_reply() -> None:
    async with SmtpSink({"RCPT eve@b.test": "550 5.1.1 unknown"}) as sink:
        receipt = await sent(sink, BOB, parse_mailbox("eve@b.test"), content=b"x\r\n")
        assert [(address, answer.code) for address, answer in receipt.recipients] == [
            ("bob@b.test", 250),
            ("eve@b.test", 550),
        ]
        assert receipt.final.is_positive
        assert not receipt.is_complete
        assert sink.accepted[0].recipients == ("bob@b.test",)


async def test_when_all_are_refused_nothing_is_sent() -> None:
    async with SmtpSink({"RCPT": "550 5.7.1 relaying denied"}) as sink:
        receipt = await sent(sink, content=b"x\r\n")
        assert not receipt.is_complete
        assert str(receipt.final) == "550 5.7.1 relaying denied"
        assert sink.messages == []


@pytest.mark.parametrize("stage", ["MAIL", "DATA", "message"])
async def test_a_refusal_of_the_message_is_its_reply(stage: str) -> None:
    async with SmtpSink({stage: "451 4.3.0 later"}) as sink:
        receipt = await sent(sink, content=b"x\r\n")
        assert not receipt.is_complete
        assert str(receipt.final) == "451 4.3.0 later"


async def test_the_null_reverse_path_is_sent_as_such() -> None:
    async with SmtpSink() as sink:
        assert (await sent(sink, sender=read_sender("<>"), content=b"x\r\n")).is_complete
        assert sink.accepted[0].reverse_path == ""


async def test_international_addresses_need_a_server_that_takes_them() -> None:
    async with SmtpSink() as sink:
        with pytest.raises(ControlError, match="SMTPUTF8"):
            await sent(sink, parse_mailbox("jürgen@b.test"), content=b"x\r\n")


async def test_a_connection_that_breaks_off_is_told() -> None:
    async with SmtpSink({"message": DROP}) as sink:
        with pytest.raises(ControlError, match="broke the connection off"):
            await sent(sink, content=b"x\r\n")


async def test_a_session_that_is_refused_is_told() -> None:
    async with SmtpSink({"connect": "554 5.7.1 go away"}) as sink:
        with pytest.raises(ControlError, match="554"):
            await sent(sink, content=b"x\r\n")


def test_no_server_is_told_with_what_to_do() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ControlError, match="make run"):
            send(f"127.0.0.1:{unused.getsockname()[1]}", ANN, [BOB], b"x\r\n")


@pytest.mark.parametrize(
    ("content", "carried", "note"),
    [
        (b"a\r\nb\r\n", b"a\r\nb\r\n", None),
        (b"a\nb\r\nc\n", b"a\r\nb\r\nc\r\n", "2 line ends were LF"),
        (b"a", b"a\r\n", "the last line got its CRLF"),
        (b"a\rb\r\n", b"a\rb\r\n", None),
        (b"", b"", None),
    ],
)
def test_only_bare_lf_and_a_missing_end_are_changed_and_said(
    content: bytes, carried: bytes, note: str | None
) -> None:
    changed, told = transport_form(content)
    assert changed == carried
    assert (told is None) is (note is None)
    assert note is None or note in str(told)


@given(
    st.lists(st.sampled_from([b"a", b".", b"\xfc"]), max_size=20).map(b"\r\n".join).map(lambda x: x + b"\r\n")
)
def test_content_with_crlf_is_never_changed(content: bytes) -> None:
    assert transport_form(content) == (content, None)


def test_the_small_message_has_what_a_mail_needs() -> None:
    message = email.message_from_bytes(small_message(ANN, [BOB], "Grüße", "Hallo"))
    assert message["From"] == "ann@a.test"
    assert message["To"] == "bob@b.test"
    assert all(message[name] for name in ("Date", "Message-ID", "Subject", "MIME-Version"))


@pytest.mark.parametrize("address", ["jürgen@b.test", '"a b"@b.test', "x@[192.0.2.1]"])
def test_the_small_message_can_be_written_to_anybody(address: str) -> None:
    content = small_message(None, [parse_mailbox(address)], "x", "y")
    assert content.replace(b"\r\n", b"").find(b"\n") < 0


def test_a_subject_of_several_lines_is_refused() -> None:
    with pytest.raises(BadUsage, match="--subject"):
        small_message(ANN, [BOB], "a\nBcc: eve@b.test", "x")


@pytest.mark.parametrize("text", ["", "a", "a@", "a b@c.test", "a@b@c", "<a@b.test", "a@b.test\r\nX"])
def test_what_is_no_address_is_named_with_its_option(text: str) -> None:
    with pytest.raises(BadUsage, match="--to"):
        read_address("--to", text)


def test_an_address_may_stand_in_brackets() -> None:
    assert read_address("--to", " <bob@b.test> ") == BOB


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("a.test:2525", ("a.test", 2525)),
        ("a.test", ("a.test", 25)),
        ("[::1]:25", ("::1", 25)),
        ("::1", ("::1", 25)),
    ],
)
def test_a_server_is_host_and_port(text: str, server: tuple[str, int]) -> None:
    assert read_server(text) == server


@pytest.mark.parametrize("text", ["", ":25", "a:x", "a:0", "a:70000"])
def test_what_is_no_server_is_named(text: str) -> None:
    with pytest.raises(BadUsage, match="--server"):
        read_server(text)
