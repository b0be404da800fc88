"""What hooks return: all that a verdict may say, and nothing else, whatever a hook puts into one."""

from __future__ import annotations

import email
from email.header import decode_header, make_header
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.reply import Reply
from empath.ingress.hooks import Verdict, refuse
from empath.ingress.hooks_verdict import MAX_FIELDS, MAX_METADATA, BrokenHook, Decision

NOTHING = Decision()


def decided(*returned: object, adds: bool = True) -> Decision:
    decision = NOTHING
    for one in returned:
        decision = decision.joined_by(one, adds=adds)
    return decision


def broken(returned: object, *, adds: bool = True) -> str:
    with pytest.raises(BrokenHook) as caught:
        decided(returned, adds=adds)
    return str(caught.value)


def test_none_changes_nothing() -> None:
    assert decided(None, Verdict(), None) == NOTHING


def test_what_several_hooks_say_is_put_together() -> None:
    decision = decided(
        Verdict(metadata={"a": 1, "b": [None]}, headers=[("X-One", "1")], tenant="shop"),
        Verdict(metadata={"a": 2}, headers=[("X-Two", "2")], priority="bulk"),
    )
    assert decision.metadata == {"a": 2, "b": [None]}
    assert decision.fields == "X-One: 1\r\nX-Two: 2\r\n"
    assert decision.field_names == (b"x-one", b"x-two")
    assert (decision.priority, decision.tenant) == ("bulk", "shop")


def test_a_refusal_takes_nothing_else_with_it() -> None:
    verdict = Verdict(reply=Reply.of(550, "5.7.1", "No"), metadata={"b": 2}, headers=[("X", "y")])
    assert decided(Verdict(metadata={"a": 1}), verdict) == Decision(reply=verdict.reply, metadata={"a": 1})


@pytest.mark.parametrize("returned", [True, 0, "", "550 no", {}, Reply.of(550, "5.7.1", "No"), Verdict])
def test_only_none_and_verdicts_are_answers(returned: object) -> None:
    assert "where None or a Verdict is due" in broken(returned)


@pytest.mark.parametrize(
    "verdict",
    [
        refuse(250, "2.0.0", "Ok"),
        refuse(354, None, "Go on"),  # type: ignore[arg-type]
        refuse(600, "5.0.0", "What"),
        refuse(550, "4.7.1", "Another class"),
        refuse(550, "", "No enhanced code"),
        refuse(550, "5.7.1", "No\r\n250 Ok"),
        refuse(550, "5.7.1", "No\nsecond line"),
        refuse(550, "5.7.1", "Nö"),
        refuse(550, "5.7.1", "x" * 401),
        Verdict(reply="550 no"),  # type: ignore[arg-type]
    ],
)
def test_only_a_refusal_in_one_line_of_ascii_is_a_reply(verdict: Verdict) -> None:
    assert "reply" in broken(verdict)


@pytest.mark.parametrize(
    "metadata",
    [
        {1: "a"},
        {"a": (1, 2)},
        {"a": {True: 1}},
        {"a": b"octets"},
        {"a": float("nan")},
        {"a": {1, 2}},
        {"a": object()},
        {"a": "\ud800"},
        {"a": 10**5000},
        [("a", 1)],
        "a",
        {"a": "x" * MAX_METADATA},
    ],
)
def test_metadata_is_json_of_a_bounded_size(metadata: Any) -> None:
    assert broken(Verdict(metadata=metadata)).startswith("metadata is ")


def test_metadata_is_no_tower() -> None:
    tower: list[Any] = []
    for _ in range(30):
        tower = [tower]
    assert broken(Verdict(metadata={"a": tower})) == "metadata is deeper than 20 levels"


def test_metadata_is_bounded_in_all_and_not_per_hook() -> None:
    half = "x" * (MAX_METADATA // 2)
    with pytest.raises(BrokenHook, match="longer than 4096 octets"):
        decided(Verdict(metadata={"a": half}), Verdict(metadata={"b": half}))


def test_a_hook_cannot_change_metadata_behind_the_back_of_the_check() -> None:
    inner = ["a"]
    decision = decided(Verdict(metadata={"inner": inner}))
    inner.append("b" * MAX_METADATA)
    assert decision.metadata == {"inner": ["a"]}


@pytest.mark.parametrize(
    "verdict",
    [Verdict(headers=[("X", "y")]), Verdict(priority="bulk"), Verdict(tenant="shop")],
)
def test_only_message_hooks_have_a_say_on_the_message(verdict: Verdict) -> None:
    assert broken(verdict, adds=False).startswith("only a message hook")


@pytest.mark.parametrize(
    "pair",
    [
        ("X: a\r\nBcc", "b"),
        ("X Y", "z"),
        ("X:", "z"),
        ("", "z"),
        ("X\u00e4", "z"),
        ("X" * 77, "z"),
        ("X", "a\r\nBcc: b"),
        ("X", "a\rb"),
        ("X", "a\nb"),
        ("X", "a\r\n b"),
        ("X", "a\x00b"),
        ("X", "a\x85b"),
        ("X", "a\u2028b"),
        ("X", "\u00e4\r\nBcc: b"),
        ("X", "y" * 999),
        ("X", "y " * MAX_FIELDS),
        ("X", 1),
        ("X",),
        "Xy",
        None,
    ],
)
def test_a_header_field_is_one_field_and_nothing_else(pair: Any) -> None:
    broken(Verdict(headers=[pair]))


def test_header_fields_are_bounded_in_all() -> None:
    assert "octets of header fields" in broken(Verdict(headers=[("X", "y" * 900)] * 10))


@pytest.mark.parametrize("verdict", [Verdict(priority="urgent"), Verdict(tenant=""), Verdict(tenant="a\nb")])  # type: ignore[arg-type]
def test_priority_and_tenant_are_what_a_user_could_have(verdict: Verdict) -> None:
    assert broken(verdict)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.just("\t"), max_size=300))
def test_a_value_of_ascii_is_folded_so_that_unfolding_gives_it_back(value: str) -> None:
    fields = decided(Verdict(headers=[("X-Empath", value)])).fields
    assert fields.endswith("\r\n")
    lines = fields[:-2].split("\r\n")
    assert all(line[:1] in (" ", "\t") and line.strip(" \t") for line in lines[1:])
    assert all(len(line) <= 78 or " " not in line.strip() for line in lines[1:])
    assert "".join(lines) == "X-Empath: " + value.strip(" \t")


@given(
    st.text(
        st.characters(min_codepoint=0xA1, max_codepoint=0x2FFF, categories=("L", "N")),
        min_size=1,
        max_size=200,
    )
)
def test_a_value_that_is_not_ascii_becomes_encoded_words(value: str) -> None:
    fields = decided(Verdict(headers=[("X-Empath", value)])).fields
    assert fields.isascii()
    assert all(len(line) <= 78 for line in fields.split("\r\n"))
    message = email.message_from_string(fields + "\r\n")
    assert message.keys() == ["X-Empath"]
    assert str(make_header(decode_header(message["X-Empath"]))) == value


@given(st.text(max_size=100), st.text(max_size=300))
def test_whatever_a_field_is_asked_to_be_it_is_one_field_or_none(name: str, value: str) -> None:
    try:
        fields = decided(Verdict(headers=[(name, value)])).fields
    except BrokenHook:
        return
    message = email.message_from_string(fields + "\r\nbody")
    assert [known.lower() for known in message] == [name.lower()]
    assert message.get_payload() == "body"
    assert not message.defects
