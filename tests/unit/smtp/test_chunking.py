"""BDAT (RFC 3030 §2): chunks are counted, not searched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.smtp import events
from empath.smtp.chunking import Chunk, ChunkReader, parse_bdat
from empath.smtp.extensions import STANDARD, Offer
from empath.smtp.faults import CommandFault
from empath.smtp.limits import Limits
from empath.smtp.server import ServerSession

LINES = st.lists(st.sampled_from([b"\r\n", b".", b"\r\n.\r\n", b"text", b"\x00", b"QUIT\r\n"])).map(b"".join)
ANY = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x"])).map(b"".join)


@pytest.mark.parametrize(
    ("argument", "chunk"),
    [
        ("0", Chunk(0, last=False)),
        ("86 LAST", Chunk(86, last=True)),
        ("007  last", Chunk(7, last=True)),
        ("9" * 20, Chunk(10**20 - 1, last=False)),
    ],
)
def test_a_chunk_has_a_size_and_may_be_the_last(argument: str, chunk: Chunk) -> None:
    assert parse_bdat(argument) == chunk


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "x",
        "-1",
        "+1",
        "0x10",
        "1.5",
        "1e3",
        "1 0",
        "LAST",
        "5LAST",
        "5 LAST LAST",
        "5 LA\u017fT",
        "9" * 21,
    ],
)
def test_what_two_servers_may_read_differently_is_no_size_and_ends_the_session(argument: str) -> None:
    with pytest.raises(CommandFault) as fault:
        parse_bdat(argument)
    assert fault.value.reply.code == 421


def swallow(content: bytes, sizes: list[int]) -> tuple[bool, ChunkReader]:
    reader = ChunkReader()
    reader.begin(Chunk(len(content), last=True))
    has_lines = True
    for size in sizes:
        octets, content = content[:size], content[size:]
        has_lines &= reader.feed(octets)
    return has_lines & reader.feed(content), reader


@given(ANY, st.lists(st.integers(0, 3), max_size=10))
def test_bare_newlines_are_found_wherever_pieces_end(content: bytes, sizes: list[int]) -> None:
    has_lines, reader = swallow(content, sizes)
    rest = content.replace(b"\r\n", b"")
    is_clean = b"\n" not in rest and b"\r" not in rest
    assert (has_lines and not reader.ends_in_cr) is is_clean
    assert (reader.remaining, reader.size) == (0, len(content))


def deliver(commands: bytes) -> tuple[bytes | None, bytes]:
    """The message that comes of a session, if one does, and all replies."""
    limits = Limits()
    session = ServerSession("mx.example", Offer(STANDARD, limits), limits)
    session.receive(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@two.example>\r\n" + commands)
    content, message = b"", None
    while (event := session.next_event()) is not None:
        match event:
            case events.ContentChunk():
                content += event.octets
            case events.MessageEnds():
                message = content
                session.accept()
            case events.Helo() | events.MailFrom() | events.RcptTo() | events.MessageBegins():
                session.accept()
    return message, session.replies()


@given(LINES, st.lists(st.integers(0, 40), max_size=8))
def test_content_comes_out_as_it_went_in_however_it_is_cut_into_chunks(
    content: bytes, sizes: list[int]
) -> None:
    commands, rest = b"", content
    for size in sizes:
        octets, rest = rest[:size], rest[size:]
        commands += b"BDAT %d\r\n%b" % (len(octets), octets)
    commands += b"BDAT %d LAST\r\n%bNOOP\r\n" % (len(rest), rest)
    message, replies = deliver(commands)
    assert message == content
    assert replies.endswith(b"250 2.0.0 Ok: message accepted\r\n250 2.0.0 Ok\r\n")


@given(st.integers(0, 30), LINES)
def test_a_size_decides_alone_where_content_ends(size: int, content: bytes) -> None:
    commands = b"BDAT %d LAST\r\n" % min(size, len(content)) + content
    message, _ = deliver(commands)
    if message is not None:
        assert message == content[: min(size, len(content))]
