"""Smuggling: octets that are content to one server must never be commands to another.

The rule: only CRLF.CRLF ends DATA and only the announced size ends a chunk (RFC 5321 §4.1.1.4,
RFC 3030 §2); a message with a bare CR or LF, which a laxer server could read differently, is refused.
"""

from __future__ import annotations

from typing import Any

import pytest

HELLO = b"EHLO evil.example\r\n"
ENVELOPE = b"MAIL FROM:<a@one.example>\r\nRCPT TO:<b@two.example>\r\n"
SMUGGLED = b"MAIL FROM:<admin@one.example>\r\nRCPT TO:<victim@two.example>\r\nDATA\r\nforged\r\n.\r\n"
BARE = "550 5.6.0 Message has a bare CR or LF; lines end with CR LF"

FALSE_ENDS = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CR": b"\r.\r",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.CR": b"\r\n.\r",
    "LF.CR": b"\n.\r",
    "CR.LF": b"\r.\n",
    "CRCRLF.CRCRLF": b"\r\r\n.\r\r\n",
    "CRLFLF.LF": b"\r\n\n.\n",
}
# RFC 5321 §4.1.1.4 carries NUL and every other octet; beside a dot they make a line of content, no end.
NO_ENDS = {
    "CRLF NUL.CRLF": b"\r\n\x00.\r\n",
    "CRLF.NUL CRLF": b"\r\n.\x00\r\n",
    "CRLF..CRLF": b"\r\n..\r\n",
    "CRLF SP.CRLF": b"\r\n .\r\n",
    "CRLF.SP CRLF": b"\r\n. \r\n",
    "NEL.NEL": b"\xc2\x85.\xc2\x85",
    "LS.LS": b"\xe2\x80\xa8.\xe2\x80\xa8",
    "VT.VT": b"\x0b.\x0b",
}


def in_one(octets: bytes) -> list[bytes]:
    return [octets]


def split_everywhere(octets: bytes) -> list[bytes]:
    return [octets[at : at + 1] for at in range(len(octets))]


def split_at_the_end(octets: bytes, end: bytes) -> list[bytes]:
    """Packets that part the false end itself, where a parser that looks at packets goes wrong."""
    at = octets.index(end)
    return [
        octets[: at + 1],
        *(octets[at + i : at + i + 1] for i in range(1, len(end))),
        octets[at + len(end) :],
    ]


@pytest.mark.parametrize("split", ["whole", "at the end", "everywhere"])
@pytest.mark.parametrize("name", FALSE_ENDS)
async def test_a_false_end_of_data_ends_nothing_and_the_message_is_refused(
    target: Any, name: str, split: str
) -> None:
    end = FALSE_ENDS[name]
    content = b"first" + end + SMUGGLED
    pieces = {
        "whole": in_one(content),
        "at the end": split_at_the_end(content, end),
        "everywhere": split_everywhere(content),
    }[split]
    replies = await target.attack(HELLO + ENVELOPE + b"DATA\r\n", *pieces, b"QUIT\r\n", pause=0.0005)
    assert replies[-3:] == ["354 End data with <CR><LF>.<CR><LF>", BARE, "221 2.0.0 Bye"]
    assert target.messages == []
    assert target.jobs() == []


@pytest.mark.parametrize("name", NO_ENDS)
async def test_what_only_looks_like_an_end_is_content_of_one_message(target: Any, name: str) -> None:
    content = b"first" + NO_ENDS[name] + SMUGGLED
    await target.attack(HELLO + ENVELOPE + b"DATA\r\n", content + b"QUIT\r\n")
    [job] = target.jobs()
    assert [str(recipient.mailbox) for recipient in job.recipients] == ["b@two.example"]
    assert b"forged" in target.spool.objects[job.spool_key]


@pytest.mark.parametrize("name", FALSE_ENDS)
async def test_a_false_end_within_a_chunk_is_swallowed_to_the_last_octet(target: Any, name: str) -> None:
    content = b"first" + FALSE_ENDS[name] + SMUGGLED
    replies = await target.attack(
        HELLO + ENVELOPE + b"BDAT %d LAST\r\n" % len(content), content + b"NOOP\r\nQUIT\r\n"
    )
    assert replies[-3:] == [BARE, "250 2.0.0 Ok", "221 2.0.0 Bye"]
    assert target.messages == []


async def test_a_true_end_of_data_ends_no_chunk(target: Any) -> None:
    content = b"first\r\n.\r\n" + SMUGGLED
    await target.attack(HELLO + ENVELOPE, b"BDAT %d LAST\r\n%bQUIT\r\n" % (len(content), content))
    assert target.messages == [content]
    [job] = target.jobs()
    assert [str(recipient.mailbox) for recipient in job.recipients] == ["b@two.example"]


@pytest.mark.parametrize("argument", [b"", b"-1", b"0x40", b"64.0", b"+64", b"64 FINAL", b"6 4", b"1" * 40])
async def test_a_chunk_whose_size_can_be_read_in_two_ways_ends_the_session(
    target: Any, argument: bytes
) -> None:
    replies = await target.attack(HELLO + ENVELOPE, b"BDAT " + argument + b"\r\n" + SMUGGLED)
    assert replies[-1].startswith("421 4.5.4 ")
    assert target.messages == []


async def test_a_chunk_that_is_shorter_than_its_size_takes_what_follows_as_content(target: Any) -> None:
    """The client said so; nothing is guessed, and the message is not complete when it leaves."""
    replies = await target.attack(HELLO + ENVELOPE, b"BDAT 10000 LAST\r\nshort\r\n" + SMUGGLED + b"QUIT\r\n")
    assert replies[-1] == "250 2.1.5 Ok"
    assert target.messages == []


async def test_octets_of_a_chunk_that_is_refused_are_no_commands(target: Any) -> None:
    replies = await target.attack(HELLO, b"BDAT %d LAST\r\n%bQUIT\r\n" % (len(SMUGGLED), SMUGGLED))
    assert [line[:3] for line in replies[-2:]] == ["503", "221"]
    assert target.messages == []


async def test_content_after_a_refused_data_is_commands_and_a_client_that_waits_is_safe(target: Any) -> None:
    """RFC 2920 §3.1: DATA ends a pipelined group. Who does not wait speaks for itself."""
    replies = await target.attack(HELLO + b"DATA\r\n", b"Subject: hi\r\n\r\nhello\r\n.\r\nQUIT\r\n")
    assert [line[:3] for line in replies[-6:]] == ["503", "500", "500", "500", "500", "221"]
    assert target.messages == []
