"""Command lines, paths and parameters (RFC 5321 §4.1)."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.address import Mailbox
from empath.smtp.faults import CommandFault
from empath.smtp.grammar import (
    Command,
    parse_command,
    parse_helo_name,
    parse_mail,
    parse_parameters,
    parse_rcpt,
)


def reply_of(fault: pytest.ExceptionInfo[CommandFault]) -> str:
    reply = fault.value.reply
    return f"{reply.code} {reply.enhanced}"


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"NOOP", Command("NOOP", "")),
        (b"noop  ", Command("NOOP", "")),
        (b"Mail From:<a@b.example>", Command("MAIL", "From:<a@b.example>")),
        (b"", Command("", "")),
        (b" NOOP", Command("", "NOOP")),
        (b"QUIT\t", Command("QUIT", "")),
        ("r\u017fet".encode(), Command("r\u017fet", "")),
    ],
)
def test_a_verb_has_no_case_and_white_space_at_the_end_does_not_count(line: bytes, command: Command) -> None:
    assert parse_command(line) == command


@pytest.mark.parametrize(
    ("argument", "mailbox", "rest"),
    [
        ("FROM:<>", None, ""),
        ("from: <> SIZE=1", None, " SIZE=1"),
        ("FROM:<a@b.example> BODY=7BIT", Mailbox("a", "b.example"), " BODY=7BIT"),
        ('FROM:<"a> <b"@c.example>', Mailbox("a> <b", "c.example"), ""),
        ('FROM:<"a\\"b"@c.example>', Mailbox('a"b', "c.example"), ""),
        ("FROM:<a@[192.0.2.1]>", Mailbox("a", "[192.0.2.1]"), ""),
        ("FROM:<a@[IPv6:2001:db8::1]>", Mailbox("a", "[IPv6:2001:db8::1]"), ""),
        ("FROM:<@one.example,@two.example:a@b.example>", Mailbox("a", "b.example"), ""),
    ],
)
def test_a_reverse_path_is_read_and_a_source_route_ignored(
    argument: str, mailbox: Mailbox | None, rest: str
) -> None:
    assert parse_mail(argument) == (mailbox, rest)


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("", "501 5.5.4"),
        ("<a@b.example>", "501 5.5.4"),
        ("FROM:", "501 5.5.4"),
        ("FROM:a@b.example", "501 5.5.4"),
        ("FROM:<a@b.example", "501 5.5.4"),
        ("FROM:<a@b.example>SIZE=1", "501 5.5.4"),
        ("FROM:<<a@b.example>>", "501 5.5.4"),
        ('FROM:<"a@b.example>', "501 5.5.4"),
        ("FROM:<@one.example:>", "501 5.5.4"),
        ("FROM:<@-bad-:a@b.example>", "501 5.5.4"),
        ("FROM:<postmaster>", "501 5.1.7"),
        ("FROM:<a@>", "501 5.1.7"),
        ("FROM:<a..b@c.example>", "501 5.1.7"),
        ("FROM:<a@[300.0.0.1]>", "501 5.1.7"),
        ("FROM:<a@b.example\x00>", "501 5.1.7"),
        (f"FROM:<{'a' * 65}@b.example>", "501 5.1.7"),
    ],
)
def test_what_is_no_reverse_path_is_refused(argument: str, reply: str) -> None:
    with pytest.raises(CommandFault) as fault:
        parse_mail(argument)
    assert reply_of(fault) == reply


@pytest.mark.parametrize("path", ["<postmaster>", "<Postmaster>", "<POSTMASTER>"])
def test_postmaster_without_a_domain_is_the_one_here(path: str) -> None:
    assert parse_rcpt(f"TO:{path}", "mx.example") == (Mailbox("postmaster", "mx.example"), "")


@pytest.mark.parametrize("argument", ["TO:<>", "TO:<a>", "TO:<@b.example>", "TO:<a@b@c.example>"])
def test_what_is_no_forward_path_is_refused(argument: str) -> None:
    with pytest.raises(CommandFault) as fault:
        parse_rcpt(argument, "mx.example")
    assert reply_of(fault) == "501 5.1.3"


def test_parameters_have_keywords_without_case_and_values_as_written() -> None:
    assert parse_parameters(" size=10  Body=8bitMime FLAG") == {
        "SIZE": "10",
        "BODY": "8bitMime",
        "FLAG": None,
    }


@pytest.mark.parametrize(
    "text", ["SIZE=", "=1", "-A=1", "A=b=c", "A=\x07", "A B=1 A", "SIZE=1 SIZE=2", "A\x00"]
)
def test_a_parameter_is_well_formed_and_stands_there_once(text: str) -> None:
    with pytest.raises(CommandFault) as fault:
        parse_parameters(text)
    assert reply_of(fault) == "501 5.5.4"


@pytest.mark.parametrize("name", ["client.example", "[192.0.2.1]", "my_pc", "localhost", "a" * 255])
def test_any_printable_name_may_follow_ehlo(name: str) -> None:
    assert parse_helo_name(name) == name


@pytest.mark.parametrize("name", ["", "two words", "a\x07b", "b\u00fccher.example", "\udcff", "a" * 256])
def test_ehlo_needs_one_printable_name(name: str) -> None:
    with pytest.raises(CommandFault) as fault:
        parse_helo_name(name)
    assert reply_of(fault) == "501 None"


@given(st.binary(max_size=300))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    command = parse_command(line)
    for parse in (
        lambda text: parse_mail("FROM:" + text),
        lambda text: parse_rcpt("TO:<" + text, "mx.example"),
        parse_parameters,
        parse_helo_name,
    ):
        with contextlib.suppress(CommandFault):
            parse(command.argument)
