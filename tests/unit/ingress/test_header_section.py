"""The header section: the same one wherever chunks end, whatever the octets are; and its limits."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from empath.ingress import replies
from empath.ingress.header_section import DEFAULT_LIMITS, HeaderLimits, HeaderReader, HeaderSection

SMALL = HeaderLimits(max_octets=60, max_field=40, max_fields=4)
HEADER = b"Received: 1\r\nSubject: Received: no\r\nRECEIVED: 2\r\n\treceived: folded\r\nreceived :3\r\n"


def read(chunks: Iterable[bytes], max_octets: int = DEFAULT_LIMITS.max_octets) -> HeaderSection:
    reader = HeaderReader(max_octets)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.end()


def refusal(content: bytes, limits: HeaderLimits = SMALL, max_hops: int = 50) -> str | None:
    reply = read([content], limits.max_octets).refusal(limits, max_hops)
    return None if reply is None else str(reply)


def pieces(content: bytes, cuts: Iterable[int]) -> list[bytes]:
    ends = sorted({cut for cut in cuts if 0 < cut < len(content)})
    return [content[start:end] for start, end in zip([0, *ends], [*ends, len(content)], strict=True)]


# Contents that are nearly headers: what chunks can cut badly, and what limits of 60 octets care about.
TOKENS = (
    b"\r\n",
    b"\r",
    b"\n",
    b":",
    b" ",
    b"\t",
    b"a",
    b"Received",
    b"A: b\r\n",
    b"x" * 30,
    b"\x00",
    b"\xff",
)
CONTENTS = st.lists(st.sampled_from(TOKENS), max_size=40).map(b"".join) | st.binary(max_size=200)


@given(CONTENTS, st.lists(st.integers(1, 200)), st.integers(1, 80))
@example(b"A: b\r\n\r\nbody", [], 6)
@example(b"A: b\r\nabc", [], 6)
@example(b"A: b\r\nab cd", [], 6)
@example(b"x" * 100, [1, 50], 60)
def test_the_section_is_the_same_wherever_chunks_end(content: bytes, cuts: list[int], most: int) -> None:
    limits = HeaderLimits(max_octets=most, max_field=20, max_fields=3)
    whole = read([content], most)
    for parts in (pieces(content, cuts), pieces(content, range(len(content)))):
        cut = read(parts, most)
        assert (cut.octets, cut.names) == (whole.octets, whole.names)
        assert cut.refusal(limits, 2) == whole.refusal(limits, 2)
    assert content.startswith(whole.octets)
    assert len(whole.octets) <= most


def by_lines(content: bytes) -> bytes:
    """The same law, told line by line."""
    section = b""
    *lines, last = content.split(b"\r\n")
    for line in [*(line + b"\r\n" for line in lines), *([last] if last else [])]:
        name, colon, _ = line.partition(b":")
        is_field = (
            bool(colon) and bool(name.strip(b" \t")) and all(33 <= c <= 126 for c in name.rstrip(b" \t"))
        )
        if not is_field and not (section and line[:1] in (b" ", b"\t")):
            break
        section += line
    return section


@given(CONTENTS)
def test_the_section_ends_before_the_first_line_that_is_no_field(content: bytes) -> None:
    assert read([content]).octets == by_lines(content)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 11, 12, 1000])
def test_received_fields_are_counted_wherever_chunks_end(size: int) -> None:
    content = HEADER + b"\r\nReceived: in the body\r\n\r\nReceived: too\r\n"
    section = read(content[start : start + size] for start in range(0, len(content), size))
    assert section.octets == HEADER
    assert section.count(b"received") == 3
    assert section.names == [b"received", b"subject", b"received", b"received"]


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"", b""),
        (b"\r\nReceived: in the body\r\n", b""),
        (b" Folded: of nothing\r\n\r\n", b""),
        (b"A: b\r\n", b"A: b\r\n"),
        (b"A: b", b"A: b"),
        (b"A:\r\n\r\n", b"A:\r\n"),
        (b"A: b\r\nDear Bob,\r\nReceived: x\r\n", b"A: b\r\n"),
        (b"A: b\r\n: no name\r\n\r\n", b"A: b\r\n"),
        (b"A: b\r\nB\xe4: no name of ASCII\r\n", b"A: b\r\n"),
        (b"From ann@one.example Sun Mar  1\r\nA: b\r\n", b""),
        (b"A: b\nC: d\r\n\r\n", b"A: b\nC: d\r\n"),
        (b"A: b\r\n" + b"n" * 998 + b": too long a name\r\n", b"A: b\r\n"),
    ],
)
def test_a_section_is_fields_and_nothing_else(content: bytes, header: bytes) -> None:
    assert read([content]).octets == header


def test_a_body_without_a_header_is_no_long_header() -> None:
    assert refusal(b"x" * 1_000_000, DEFAULT_LIMITS) is None
    assert refusal(b"dear all, \r\n" * 100_000) is None


def test_a_section_is_over_as_soon_as_its_last_line_is_known() -> None:
    reader = HeaderReader()
    assert reader.feed(b"A: b\r\n") is None
    assert reader.feed(b"\r") is None
    section = reader.feed(b"\n")
    assert section is not None
    assert reader.feed(b"C: d\r\n") is section
    assert reader.end() is section


def test_no_more_of_a_section_is_held_than_its_limit_allows() -> None:
    reader = HeaderReader(1000)
    for _ in range(1001 // 6):
        assert reader.feed(b"A: b\r\n") is None
    section = reader.feed(b"A: b\r\n")
    assert section is not None
    assert section.octets == b""
    assert section.refusal(SMALL, 50) is not None


def test_a_section_may_be_as_long_as_its_limit_and_no_octet_more() -> None:
    fields = b"A: " + b"x" * 25 + b"\r\nB: " + b"y" * 25 + b"\r\n"
    assert len(fields) == SMALL.max_octets
    assert refusal(fields) is refusal(fields + b"\r\nbody") is None
    longer = "552 5.3.4 Header section is longer than 60 octets"
    assert refusal(fields[:-2] + b"z\r\n\r\nbody") == longer
    assert refusal(fields + b"C: d\r\n") == longer


def test_a_field_may_be_as_long_as_its_limit_its_folds_included() -> None:
    field = b"A: " + b"x" * 17 + b"\r\n " + b"y" * 15 + b"\r\n"
    assert len(field) == SMALL.max_field
    assert refusal(field + b"B: c\r\n\r\n") is None
    too_long = "552 5.3.4 A header field is longer than 40 octets"
    for content in (b"y" + field, b"B: c\r\ny" + field, b"y" + field + b"B: c\r\n"):
        assert refusal(content + b"\r\n") == too_long


def test_fields_are_limited_in_number_and_folded_lines_are_none() -> None:
    assert refusal(b"A: b\r\n\tc\r\n" * 4 + b"\r\n") is None
    assert refusal(b"A: b\r\n" * 5 + b"\r\n") == "554 5.6.0 More than 4 header fields"


def test_hops_are_limited_and_only_fields_of_that_name_are_hops() -> None:
    content = b"Received: 1\r\nX: received received received\r\nRECEIVED:2\r\n\r\nReceived: 3\r\n"
    assert refusal(content, DEFAULT_LIMITS, max_hops=2) is None
    assert read([content]).refusal(DEFAULT_LIMITS, 1) is replies.TOO_MANY_HOPS
