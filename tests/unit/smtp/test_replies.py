"""Replies on the wire (RFC 5321 §4.2)."""

from hypothesis import given
from hypothesis import strategies as st

from empath.domain.reply import Reply
from empath.smtp import replies


def test_every_line_carries_the_code_and_the_enhanced_code() -> None:
    reply = Reply.of(550, "5.7.1", "first\nsecond")
    assert replies.encode(reply) == b"550-5.7.1 first\r\n550 5.7.1 second\r\n"


def test_a_reply_without_enhanced_code_has_none() -> None:
    assert replies.encode(replies.greeting("mx.example")) == b"220 mx.example ESMTP Empath\r\n"


@given(st.text(), st.sampled_from([None, "5.7.1"]))
def test_a_text_can_neither_add_a_reply_nor_break_its_bounds(text: str, enhanced: str | None) -> None:
    lines = replies.encode(Reply.of(550, enhanced, text)).split(b"\r\n")
    assert lines.pop() == b""
    assert all(line.startswith(b"550-") for line in lines[:-1])
    assert lines[-1].startswith(b"550 ")
    assert all(
        len(line) + 2 <= replies.MAX_REPLY_LINE and line.decode("ascii").isprintable() for line in lines
    )


def test_own_replies_carry_codes_of_one_class() -> None:
    own = [value for value in vars(replies).values() if isinstance(value, Reply)]
    assert len(own) > 20
    for reply in own:
        assert reply.enhanced is None or reply.enhanced.status_class == reply.code // 100
