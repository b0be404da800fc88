"""Any octets end in replies or in a broken reader, wherever the pieces end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.reply import MAX_HEARD_OCTETS, Reply
from empath.smtp.client.reply_reader import MAX_LINE, MAX_REPLY, ReplyReader


def read(octets: bytes) -> list[str]:
    reader = ReplyReader()
    return [str(reply) for reply in reader.feed(octets)] + (["broken"] if reader.is_broken else [])


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"250 Ok\r\n", ["250 Ok"]),
        (b"250\r\n", ["250"]),
        (b"250 \r\n", ["250"]),
        (b"250 Ok\n", ["250 Ok"]),
        (b"250 2.1.5 Ok\r\n", ["250 2.1.5 Ok"]),
        (b"250-first\r\n250-\r\n250 last\r\n", ["250 first  last"]),
        (b"550-5.1.1 first\r\n550 5.1.1 last\r\n", ["550 5.1.1 first last"]),
        (b"250 a\r\n354 b\r\n250 c\r\n", ["250 a", "354 b", "250 c"]),
        (b"250-a\r\n550 b\r\n", ["550 a b"]),
        (b"250 a", []),
        (b"199 what\r\n", ["451 4.5.0 unusable reply code 199"]),
        (b"999 what\r\n", ["451 4.5.0 unusable reply code 999"]),
        (b"\r\n", ["broken"]),
        (b"hello\r\n", ["broken"]),
        (b"25 short\r\n", ["broken"]),
        (b"250Ok\r\n", ["broken"]),
        (b"2500 Ok\r\n", ["broken"]),
        ("٢٥٠ Ok\r\n".encode(), ["broken"]),
        (b"250 ok\r\nwhat\r\n250 ok\r\n", ["250 ok", "broken"]),
        (b"250-a\r\nwhat\r\n", ["broken"]),
    ],
)
def test_replies_as_they_are_read(octets: bytes, expected: list[str]) -> None:
    assert read(octets) == expected


def test_a_line_has_a_bound() -> None:
    assert read(b"250 " + b"x" * (MAX_LINE - 6) + b"\r\n") != ["broken"]
    assert read(b"250 " + b"x" * (MAX_LINE - 5) + b"\r\n") == ["broken"]
    assert read(b"2" * MAX_LINE) == ["broken"]


def test_a_reply_has_a_bound_and_the_next_one_its_own() -> None:
    line = b"250-" + b"x" * 1018 + b"\r\n"
    fits = line * (MAX_REPLY // len(line) - 1) + line.replace(b"-", b" ")
    assert len(read(fits)) == 1
    assert len(read(fits * 3)) == 3
    assert read(line * (MAX_REPLY // len(line)) + b"250 end\r\n") == ["broken"]


def test_a_strangers_words_are_cleaned_and_bounded() -> None:
    reader = ReplyReader()
    (reply,) = reader.feed(b"550 5.1.1 \x1b[31mred\x00\x9b \xff\xfe " + b"x" * 5000 + b"\r\n")
    assert reply.code == 550
    assert reply.text.isprintable()
    assert len(reply.text.encode()) <= MAX_HEARD_OCTETS


pieces = st.sampled_from(
    [
        b"250 Ok\r\n",
        b"250-",
        b"354 go\r\n",
        b"\r",
        b"\n",
        b"5",
        b"550 5.1.1 no",
        b" ",
        b"421 bye\r\n",
        b"\x00\xff",
    ]
)
streams = st.one_of(st.binary(max_size=60), st.lists(pieces, max_size=20).map(b"".join))


@given(stream=streams, repeat=st.sampled_from([1, 1, 1, 2000]), cuts=st.lists(st.integers(0, 80), max_size=8))
def test_where_the_pieces_end_makes_no_difference(stream: bytes, repeat: int, cuts: list[int]) -> None:
    stream *= repeat
    whole = ReplyReader()
    expected: list[Reply] = whole.feed(stream)
    for borders in (sorted(cuts), range(min(len(stream), 200))):
        reader, found, begin = ReplyReader(), [], 0
        for end in [*borders, len(stream)]:
            found += reader.feed(stream[begin:end])
            begin = max(begin, end)
        assert found == expected
        assert reader.is_broken == whole.is_broken
        assert whole.is_broken or reader.is_amid_a_reply == whole.is_amid_a_reply
