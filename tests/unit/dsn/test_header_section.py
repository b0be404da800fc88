"""The header section that a report returns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.dsn.model import header_section

HEADER = b"Received: by a;\r\n\tSun, 1 Mar\r\nSubject: hello\r\nX-Long: 1234567890\r\n"
MESSAGE = HEADER + b"\r\nbody: not a field\r\n"


def test_ends_before_the_empty_line() -> None:
    assert header_section(MESSAGE) == HEADER


def test_a_message_without_body_is_all_header() -> None:
    assert header_section(b"Subject: a\r\nX: b\r\n") == b"Subject: a\r\nX: b\r\n"


@pytest.mark.parametrize("content", [b"\r\nbody", b"", b"no field here\r\n", b" folded\r\n", b"\r\n"])
def test_a_message_without_header_has_none(content: bytes) -> None:
    assert header_section(content) == b""


def test_a_line_that_is_no_field_ends_it() -> None:
    assert header_section(b"Subject: a\r\nDear all,\r\nX: b\r\n\r\n") == b"Subject: a\r\n"


@pytest.mark.parametrize("limit", range(len(MESSAGE)))
def test_is_cut_between_two_fields(limit: int) -> None:
    section = header_section(MESSAGE, limit)
    assert len(section) <= limit
    assert section in (
        b"",
        b"Received: by a;\r\n\tSun, 1 Mar\r\n",
        b"Received: by a;\r\n\tSun, 1 Mar\r\nSubject: hello\r\n",
        header_section(MESSAGE),
    )


def test_an_empty_line_right_behind_the_limit_still_ends_it() -> None:
    whole = header_section(MESSAGE)
    assert header_section(MESSAGE, len(whole)) == whole


@given(st.binary(max_size=200), st.integers(0, 100))
def test_is_always_a_bounded_prefix(content: bytes, limit: int) -> None:
    section = header_section(content, limit)
    assert content.startswith(section)
    assert len(section) <= limit
    assert not section or section.endswith(b"\r\n")
