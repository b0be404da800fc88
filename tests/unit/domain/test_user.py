"""Users: their names in one form, what they may send from, and records that may be wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.address import parse_mailbox
from empath.domain.errors import InvalidUser
from empath.domain.password import Cost, hash_password
from empath.domain.user import User, read_user, sender_domain, user_name
from empath.testing.clock import START

HASH = hash_password("secret", b"saltsalt", Cost(ln=1, r=1, p=1))


def a_user(*domains: str) -> User:
    return User(name="ann", domains=domains, created_at=START)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("ann", "ann"),
        ("Ann@Example.COM", "ann@example.com"),
        ("\uff21\uff2e\uff2e", "ann"),
        ("u\u0308ber", "\u00fcber"),
        ("\ufb01x", "fix"),
        ("a#b", "a#b"),
        ("x" * 254, "x" * 254),
    ],
)
def test_a_name_has_one_form(written: str, kept: str) -> None:
    assert user_name(written) == kept


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a\u00a0b", "a\x00b", "a\tb", "a\x7fb", "a\u202eb", "a\u200bb", "a\ud800", "\ue000",
     "x" * 255, "é" * 128, "\ufdfa" * 200],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidUser, match=r"^name: "):
        user_name(name)


@given(st.text(max_size=40))
def test_the_form_of_a_name_is_its_own(text: str) -> None:
    try:
        name = user_name(text)
    except InvalidUser:
        return
    assert user_name(name) == name
    assert len(name.encode()) <= 254


@pytest.mark.parametrize(
    ("domains", "may", "may_not"),
    [
        (["example.com"], ["a@example.com", "a@EXAMPLE.com"], ["a@sub.example.com", "a@notexample.com"]),
        ([".example.com"], ["a@sub.example.com", "a@x.y.example.com"], ["a@example.com", "a@xexample.com"]),
        (["example.com", ".example.com"], ["a@example.com", "a@b.example.com"], ["a@example.com.evil.test"]),
        (["*"], ["a@anything.test", "a@[192.0.2.1]"], []),
        ([], [], ["a@example.com", "a@[192.0.2.1]"]),
        (["[192.0.2.1]"], ["a@[192.0.2.1]"], ["a@[192.0.2.11]"]),
        (["Bücher.example"], ["a@bücher.example", "a@BÜCHER.example"], ["a@xn--bcher-kva.example"]),
        (["example.com"], [], ['"a@example.com"@evil.test', "example.com@evil.test"]),
    ],
)
def test_a_user_sends_from_its_own_domains(domains: list[str], may: list[str], may_not: list[str]) -> None:
    user = a_user(*domains)
    assert [address for address in may if not user.may_send_from(parse_mailbox(address))] == []
    assert [address for address in may_not if user.may_send_from(parse_mailbox(address))] == []


@pytest.mark.parametrize("domains", [[], ["example.com"], ["*"]])
def test_the_null_reverse_path_is_every_users(domains: list[str]) -> None:
    assert a_user(*domains).may_send_from(None)


@pytest.mark.parametrize(
    "domain", ["", ".", "*.example.com", "a..b", "a b", "@example.com", ".[192.0.2.1]", "**"]
)
def test_what_is_no_domain_is_refused(domain: str) -> None:
    with pytest.raises(InvalidUser, match=r"^domains: "):
        sender_domain(domain)


GOOD = {"name": "Ann", "created_at": "2026-03-01T12:00:00.000Z"}


def test_a_record_of_plain_values_is_read() -> None:
    user = read_user({**GOOD, "password_hash": HASH, "domains": ["A.test"], "messages_per_hour": 7})
    assert user == User(
        name="ann", password_hash=HASH, domains=("a.test",), messages_per_hour=7, created_at=START
    )
    assert not user.is_revoked
    assert read_user({**GOOD, "revoked_at": "2026-03-01T12:00:00.000Z"}).is_revoked


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"password_hash": "hunter2"}, "password_hash"),
        ({"domains": ["a..b"]}, "domains"),
        ({"domains": ["a.test"] * 101}, "domains"),
        ({"tenant": ""}, "tenant"),
        ({"tenant": "a\x1b[2Jb"}, "tenant"),
        ({"tenant": "x" * 65}, "tenant"),
        ({"priority": "urgent"}, "priority"),
        ({"messages_per_hour": 0}, "messages_per_hour"),
        ({"messages_per_hour": "many"}, "messages_per_hour"),
        ({"revoked_at": "yesterday"}, "revoked_at"),
        ({"created_at": None}, "created_at"),
        ({"is_admin": True}, "is_admin"),
    ],
    ids=str,
)
def test_a_record_with_a_wrong_field_names_it(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidUser, match=f"^{field}: ") as error:
        read_user({**GOOD, **wrong})
    assert "hunter2" not in str(error.value)


def test_a_users_text_shows_no_hash() -> None:
    assert HASH not in repr(read_user({**GOOD, "password_hash": HASH}))
