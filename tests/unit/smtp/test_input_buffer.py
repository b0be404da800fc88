"""Lines out of octets: only CRLF ends one, and one line gets one reply."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from empath.domain.reply import Reply
from empath.smtp import replies
from empath.smtp.input_buffer import InputBuffer

LIMIT = 16


def lines_of(*pieces: bytes) -> list[bytes | Reply]:
    buffer = InputBuffer(LIMIT)
    found: list[bytes | Reply] = []
    for piece in pieces:
        buffer.append(piece)
        while (line := buffer.take_line()) is not None:
            found.append(line)
    return found


@pytest.mark.parametrize(
    ("octets", "lines"),
    [
        (b"NOOP\r\nQUIT\r\nres", [b"NOOP", b"QUIT"]),
        (b"\r\n", [b""]),
        (b"12345678901234\r\n", [b"12345678901234"]),
        (b"123456789012345\r\nNOOP\r\n", [replies.LINE_TOO_LONG, b"NOOP"]),
        (b"x" * 500 + b"\r\nNOOP\r\n", [replies.LINE_TOO_LONG, b"NOOP"]),
        (b"A\nB\r\nNOOP\r\n", [replies.BARE_NEWLINE_IN_COMMAND, b"NOOP"]),
        (b"A\rB\r\nNOOP\r\n", [replies.BARE_NEWLINE_IN_COMMAND, b"NOOP"]),
        (b"A\r\r\nNOOP\r\n", [replies.BARE_NEWLINE_IN_COMMAND, b"NOOP"]),
        (b"A\n\r\nNOOP\r\n", [replies.BARE_NEWLINE_IN_COMMAND, b"NOOP"]),
        (b"A\nB\nC\nNOOP\n", [replies.BARE_NEWLINE_IN_COMMAND]),
        (b"x" * 20 + b"\n\r\nNOOP\r\n", [replies.LINE_TOO_LONG, b"NOOP"]),
        (b"x" * 5 + b"\n" + b"x" * 20 + b"\r\nNOOP\r\n", [replies.BARE_NEWLINE_IN_COMMAND, b"NOOP"]),
    ],
)
def test_a_bad_line_costs_one_reply_and_the_next_one_is_read(
    octets: bytes, lines: list[bytes | Reply]
) -> None:
    assert lines_of(octets) == lines


def test_a_bare_newline_is_reported_before_its_line_ends() -> None:
    assert lines_of(b"EHLO x\n") == [replies.BARE_NEWLINE_IN_COMMAND]


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b"abcdefgh", b"0123456789"])).map(b"".join))
@example(b"0123456789abcde\r\n")
@example(b"0123456789abcd\r\r\n\n")
def test_the_pieces_that_input_comes_in_make_no_difference(octets: bytes) -> None:
    singly = [octets[i : i + 1] for i in range(len(octets))]
    assert lines_of(octets) == lines_of(*singly)


@given(st.binary(max_size=2000))
def test_what_is_no_line_is_not_held(octets: bytes) -> None:
    buffer = InputBuffer(LIMIT)
    for i in range(len(octets)):
        buffer.append(octets[i : i + 1])
        while buffer.take_line() is not None:
            pass
        assert len(buffer) <= LIMIT


def test_a_bounded_piece_leaves_the_rest_for_lines() -> None:
    buffer = InputBuffer(64)
    buffer.append(b"BDAT 3\r\na\nbNOOP\r\n")
    assert buffer.take_line() == b"BDAT 3"
    assert (buffer.take(2), buffer.take(1), buffer.take_line()) == (b"a\n", b"b", b"NOOP")
    assert (buffer.take(5), len(buffer)) == (b"", 0)
