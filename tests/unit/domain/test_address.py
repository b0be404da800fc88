"""Mailboxes: RFC 5321 §4.1.2, with UTF-8 carried."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain import address
from empath.domain.address import Mailbox, check_domain, parse_mailbox
from empath.domain.errors import AddressSyntaxError


@pytest.mark.parametrize(
    ("text", "local_part", "domain"),
    [
        ("ann@example.com", "ann", "example.com"),
        ("a.b+c=d@x", "a.b+c=d", "x"),
        ("!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~", "example.com"),
        ('"ann b"@example.com', "ann b", "example.com"),
        ('"a\\"b\\\\c"@example.com', 'a"b\\c', "example.com"),
        ('""@example.com', "", "example.com"),
        ('"a@b"@example.com', "a@b", "example.com"),
        ("ann@[192.0.2.1]", "ann", "[192.0.2.1]"),
        ("ann@[IPv6:2001:db8::1]", "ann", "[IPv6:2001:db8::1]"),
        ("jörg@exämple.com", "jörg", "exämple.com"),
        ("ann@" + "a" * 63 + ".com", "ann", "a" * 63 + ".com"),
        ("a" * 64 + "@example.com", "a" * 64, "example.com"),
    ],
)
def test_mailboxes_of_the_grammar_are_read(text: str, local_part: str, domain: str) -> None:
    assert parse_mailbox(text) == Mailbox(local_part, domain)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "local part is empty"),
        ("@example.com", "local part is empty"),
        ("ann", "no '@domain'"),
        ("ann@", "domain is empty"),
        ("ann@.com", "bad or empty label"),
        ("ann@example..com", "bad or empty label"),
        ("ann@example.com.", "bad or empty label"),
        ("ann@-example.com", "bad or empty label"),
        ("ann@exam ple.com", "bad or empty label"),
        ("ann@" + "a" * 64 + ".com", "longer than 63"),
        ("a" * 65 + "@example.com", "local part longer than 64"),
        ("ann@" + "a." * 126 + "com", "longer than 254"),
        (".ann@example.com", "bad character"),
        ("an..n@example.com", "bad character"),
        ("ann.@example.com", "bad character"),
        ("an n@example.com", "bad character"),
        ('"ann@example.com', "not closed"),
        ('"an\x07n"@example.com', "bad character"),
        ("ann@[192.0.2.256]", "not an IP address"),
        ("ann@[192.0.2.1", "not closed"),
        ("ann@[IPv6:fe80::1%eth0]", "not an IP address"),
        ("ann@[2001:db8::1]", "not an IP address"),
        ("ann\r\nRCPT@example.com", "bad character"),
        ("ann\x85@example.com", "control character"),
        ("ann\udc80@example.com", "control character"),
    ],
)
def test_everything_else_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(AddressSyntaxError, match=why.replace("(", "\\(")):
        parse_mailbox(text)


@given(st.text(max_size=60), st.sampled_from(["example.com", "[192.0.2.1]", "b.c"]))
def test_any_local_part_that_is_read_is_written_back_to_the_same_mailbox(
    local_part: str, domain: str
) -> None:
    try:
        mailbox = parse_mailbox(f"{local_part}@{domain}")
    except AddressSyntaxError:
        return
    assert parse_mailbox(str(mailbox)) == mailbox


@given(st.text(max_size=300))
def test_any_text_is_a_mailbox_or_an_address_syntax_error(text: str) -> None:
    try:
        mailbox = parse_mailbox(text)
    except AddressSyntaxError:
        return
    assert not set(str(mailbox)) & set("\r\n\x00")


def test_destinations_fold_case_and_local_parts_keep_it() -> None:
    mailbox = parse_mailbox("Ann@Example.COM")
    assert (mailbox.local_part, mailbox.destination, str(mailbox)) == (
        "Ann",
        "example.com",
        "Ann@Example.COM",
    )


def test_a_domain_may_not_be_longer_than_255_octets() -> None:
    with pytest.raises(AddressSyntaxError, match="longer than 255"):
        check_domain(".".join(["a" * 60] * 5))


_plain_words = st.from_regex(r"[a-zA-Z0-9.@+_-]{1,70}", fullmatch=True)


@given(st.builds("{}@{}".format, _plain_words, _plain_words) | _plain_words)
def test_the_quick_way_for_plain_addresses_agrees_with_the_grammar_part_by_part(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        quickly = _read(text)
        patch.setattr(address, "_PLAIN", re.compile("(?!)"))
        assert _read(text) == quickly


def _read(text: str) -> Mailbox | None:
    try:
        return parse_mailbox(text)
    except AddressSyntaxError:
        return None
