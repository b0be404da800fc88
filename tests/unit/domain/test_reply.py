"""Replies: enhanced codes, what bare codes imply, and strangers' words made harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.outcome import Deferred, Failed, Sent, outcome_of_reply
from empath.domain.reply import MAX_HEARD_OCTETS, EnhancedStatusCode, Reply


def test_the_enhanced_code_is_taken_out_of_every_line() -> None:
    reply = Reply.heard(550, "5.1.1 No such user\n5.1.1 Try another")
    assert reply.enhanced == EnhancedStatusCode(5, 1, 1)
    assert reply.text == "No such user\nTry another"
    assert str(reply) == "550 5.1.1 No such user Try another"


@pytest.mark.parametrize("text", ["4.1.1 wrong class", "5.1 short", "5.1.1x", "55.1.1 no", "no code"])
def test_what_is_no_enhanced_code_of_this_class_stays_text(text: str) -> None:
    reply = Reply.heard(550, text)
    assert reply.enhanced is None
    assert reply.text == text


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (550, "5.1.0"),
        (552, "5.2.2"),
        (451, "4.3.0"),
        (421, "4.3.2"),
        (250, "2.0.0"),
        (459, "4.0.0"),
        (571, "5.0.0"),
    ],
)
def test_a_bare_code_implies_a_status(code: int, status: str) -> None:
    assert str(Reply.heard(code, "words").status) == status


@given(st.integers(-1, 1000), st.text(max_size=3000))
def test_heard_words_are_bounded_and_printable(code: int, text: str) -> None:
    reply = Reply.heard(code, text)
    assert len(reply.text.encode()) <= MAX_HEARD_OCTETS
    assert all(char == "\n" or char.isprintable() or not char.isascii() for char in reply.text)
    assert "\n" not in str(reply)
    assert "\r" not in str(reply)
    assert Reply.model_validate_json(reply.model_dump_json()) == reply


def test_a_code_that_is_none_defers() -> None:
    assert Reply.heard(999, "hm").is_transient


@pytest.mark.parametrize(
    ("code", "kind"),
    [(250, Sent), (251, Sent), (354, Deferred), (421, Deferred), (450, Deferred), (550, Failed)],
)
def test_2xx_sends_5xx_fails_and_everything_else_defers(code: int, kind: type) -> None:
    assert isinstance(outcome_of_reply(Reply.heard(code, "x")), kind)


def test_an_enhanced_code_must_look_like_one() -> None:
    with pytest.raises(ValueError, match="not an enhanced status code"):
        EnhancedStatusCode.parse("5.1")
