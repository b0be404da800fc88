"""Content out of octets: where it ends, and its transparency (RFC 5321 §4.1.1.4 and §4.5.2)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from empath.smtp.data_reader import DataReader

PIECES = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"x", b"\x00", b"line", b"\xff"])
).map(b"".join)


def read(octets: bytes, size: int | None = None) -> tuple[bytes, bytes, DataReader]:
    """All content, the rest, and the reader, with input in pieces of `size`."""
    reader = DataReader()
    content = b""
    for start in range(0, len(octets), size or max(len(octets), 1)):
        if reader.ended:
            return content, octets[start:], reader
        piece, rest = reader.feed(octets[start : start + (size or len(octets))])
        content += piece
        if rest:
            return content, rest + octets[start + (size or len(octets)) :], reader
    return content, b"", reader


def stuffed(content: bytes) -> bytes:
    return (
        content.replace(b"\r\n.", b"\r\n..")
        if not content.startswith(b".")
        else b"." + stuffed(b"x" + content)[1:]
    )


@pytest.mark.parametrize(
    ("octets", "content", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"\r\n.\r\n", b"\r\n", b""),
        (b"hi\r\n.\r\nQUIT\r\n", b"hi\r\n", b"QUIT\r\n"),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b"...\r\n..x\r\n.\r\n", b"..\r\n.x\r\n", b""),
        (b".x\r\n.\r\n", b"x\r\n", b""),
        (b"a\r\n..\r\n.\r\n.\r\n", b"a\r\n.\r\n", b".\r\n"),
        (b"NUL \x00 passes\r\n.\r\n", b"NUL \x00 passes\r\n", b""),
        (b"x" * 100_000 + b"\r\n.\r\n", b"x" * 100_000 + b"\r\n", b""),
    ],
)
def test_only_crlf_dot_crlf_ends_content_and_one_dot_is_taken_away(
    octets: bytes, content: bytes, rest: bytes
) -> None:
    for size in (None, 1, 2, 3, 7):
        found, left, reader = read(octets, size)
        assert (found, left, reader.ended, reader.has_bare_newline) == (content, rest, True, False)
        assert reader.size == len(content)


@pytest.mark.parametrize(
    "end",
    [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\r\n.\n", b"\r\n\x00.\r\n"],
)
def test_what_other_servers_may_take_for_an_end_is_none_here(end: bytes) -> None:
    smuggled = b"first" + end + b"MAIL FROM:<evil@example.org>\r\n"
    for size in (None, 1):
        _, rest, reader = read(smuggled, size)
        assert (rest, reader.ended) == (b"", False)
        assert reader.has_bare_newline is (b"\x00" not in end)


@given(st.lists(st.sampled_from([b"\r\n", b".", b"\r\n.", b"text", b"\x00", b"\xe4"])).map(b"".join))
def test_stuffed_content_comes_out_as_it_was(content: bytes) -> None:
    content += b"\r\n"
    found, rest, reader = read(stuffed(content) + b".\r\nNOOP\r\n")
    assert (found, rest, reader.has_bare_newline) == (content, b"NOOP\r\n", False)


@given(PIECES, st.integers(1, 5))
@example(b"\r\n.\r\r\n.\r\n", 1)
@example(b"a\r\n.\rb\n.\r\n", 2)
def test_the_pieces_that_input_comes_in_make_no_difference(octets: bytes, size: int) -> None:
    whole, in_pieces = read(octets), read(octets, size)
    assert whole[:2] == in_pieces[:2]
    for name in ("ended", "size", "raw_octets", "has_bare_newline"):
        assert getattr(whole[2], name) == getattr(in_pieces[2], name), name
