"""A header field that says the priority: only where it is asked for, and only from who may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.envelope import Priority
from empath.domain.user import User
from empath.ingress.header_section import HeaderSection
from empath.ingress.priority_header import PriorityHeader, chosen_priority
from empath.testing.clock import START

CLASS = PriorityHeader.parse("X-Mail-Class")
PRECEDENCE = PriorityHeader.parse("Precedence: bulk=bulk, list = BULK,first-class=high")


def section(*lines: str) -> HeaderSection:
    return HeaderSection("".join(f"{line}\r\n" for line in lines).encode())


def user(priority: Priority) -> User:
    return User(name="ann", domains=("one.example",), priority=priority, created_at=START)


@pytest.mark.parametrize(
    ("lines", "priority"),
    [
        (["X-Mail-Class: high"], "high"),
        (["From: a@b", "x-MAIL-class :\r\n\tBulk ", "To: c@d"], "bulk"),
        (["X-Mail-Class: normal"], "normal"),
        (["X-Mail-Class: urgent"], None),
        (["X-Mail-Class:"], None),
        (["X-Mail-Class: h\u00efgh"], None),
        (["X-Mail-Class: high", "X-Mail-Class: high"], None),  # who is to say which is meant
        (["X-Mail-Class-2: high"], None),
        (["X-Mail-Class-2: bulk", "X-Mail-Class: high"], "high"),
        (["Subject: a\r\n X-Mail-Class: high"], None),
        (["X-Mail-Class: " + "high " * 100], None),
        (["Precedence: bulk", "X-Priority: 1"], None),
        ([], None),
    ],
)
def test_the_field_is_read_where_it_is_the_only_one_of_its_name(
    lines: list[str], priority: Priority | None
) -> None:
    assert CLASS.priority(section(*lines)) == priority


@pytest.mark.parametrize(("value", "priority"), [("list", "bulk"), ("FIRST-class", "high"), ("high", None)])
def test_values_are_those_of_the_setting(value: str, priority: Priority | None) -> None:
    assert PRECEDENCE.priority(section(f"Precedence: {value}")) == priority


@pytest.mark.parametrize(
    "text", ["", "two words", "X-A: high", "X-A: a=urgent", "X-A: =bulk", "X\u00e9", ":a=bulk"]
)
def test_a_setting_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no "):
        PriorityHeader.parse(text)


@pytest.mark.parametrize(
    ("who", "is_trusted", "says", "priority"),
    [
        (None, False, "high", "normal"),
        (None, False, "bulk", "normal"),
        (None, True, "high", "high"),
        (None, True, "bulk", "bulk"),
        (user("normal"), False, "high", "high"),
        (user("normal"), False, "nonsense", "normal"),
        (user("high"), False, "bulk", "bulk"),
        (user("high"), False, "nonsense", "high"),
        (user("bulk"), True, "high", "bulk"),
    ],
)
def test_strangers_have_no_say_and_a_bulk_user_stays_one(
    who: User | None, is_trusted: bool, says: str, priority: Priority
) -> None:
    header = section(f"X-Mail-Class: {says}")
    assert chosen_priority(CLASS, header, user=who, is_trusted=is_trusted) == priority


def test_without_the_setting_no_field_counts() -> None:
    header = section("X-Mail-Class: high", "Precedence: bulk", "X-Priority: 1")
    assert chosen_priority(None, header, user=user("normal"), is_trusted=True) == "normal"


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"X-Mail-Class", b":", b"\r\n", b" ", b"high"])).map(b"".join)
)
def test_any_octets_have_a_value_or_none(octets: bytes) -> None:
    value = HeaderSection(octets).value(b"x-mail-class")
    assert value is None or b"\r\n" not in value
