"""Passwords as they are kept: what is right stays right, what cannot be used is told before it costs."""

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empath.domain.errors import UnreadablePasswordHash
from empath.domain.password import (
    DEFAULT_COST,
    MAX_MEMORY,
    MAX_WORK,
    Cost,
    check_encoded,
    hash_password,
    verify_password,
)

CHEAP = Cost(ln=1, r=1, p=1)
SALT = b"0123456789abcdef"

# What OWASP's Password Storage Cheat Sheet calls equal, by memory.
OWASP = {17: 1, 16: 2, 15: 3, 14: 5, 13: 10}


def test_the_default_cost_is_one_that_owasp_names() -> None:
    assert DEFAULT_COST.r == 8
    assert OWASP[DEFAULT_COST.ln] == DEFAULT_COST.p
    assert DEFAULT_COST.memory == 16 << 20


def test_a_password_is_right_and_another_one_is_not_at_the_default_cost() -> None:
    encoded = hash_password("correct horse", SALT)
    assert encoded.startswith("$scrypt$ln=14,r=8,p=5$MDEyMzQ1Njc4OWFiY2RlZg$")
    assert verify_password("correct horse", encoded)
    assert not verify_password("correct horsE", encoded)


def test_the_hash_is_scrypts_own() -> None:
    # RFC 7914 §12, the third vector, cut by nobody: N=16384, r=8, p=1, 64 octets.
    digest = bytes.fromhex(
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
    )
    salt, kept = (base64.b64encode(octets).decode().rstrip("=") for octets in (b"SodiumChloride", digest))
    assert verify_password("pleaseletmein", f"$scrypt$ln=14,r=8,p=1${salt}${kept}")


def test_a_hash_that_passlib_wrote_is_readable() -> None:
    # The example of passlib's documentation of scrypt, made of "password".
    encoded = "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"
    assert verify_password("password", encoded)


@given(st.text(min_size=1), st.text(min_size=1), st.binary(min_size=8, max_size=64))
@settings(max_examples=200)
def test_only_the_same_password_is_right(password: str, other: str, salt: bytes) -> None:
    encoded = hash_password(password, salt, CHEAP)
    assert verify_password(password, encoded)
    assert hash_password(other, salt, CHEAP) == encoded or not verify_password(other, encoded)


@pytest.mark.parametrize(
    ("typed", "kept"), [("cafe\u0301 1", "caf\u00e9 1"), ("a\u00a0b", "a b"), ("a\u3000b", "a b")]
)
def test_a_password_is_the_same_however_it_was_typed(typed: str, kept: str) -> None:
    assert verify_password(typed, hash_password(kept, SALT, CHEAP))


@pytest.mark.parametrize("kept", ["Secret", "secret ", "\uff53ecret"])
def test_case_spaces_and_width_of_a_password_count(kept: str) -> None:
    assert not verify_password("secret", hash_password(kept, SALT, CHEAP))


def test_a_password_is_salted() -> None:
    assert hash_password("x", SALT, CHEAP) != hash_password("x", SALT[::-1], CHEAP)


@pytest.mark.parametrize("salt", [b"", b"1234567", bytes(65)])
def test_a_salt_out_of_bounds_is_refused(salt: bytes) -> None:
    with pytest.raises(ValueError, match="8 to 64 octets"):
        hash_password("x", salt, CHEAP)


def test_a_cost_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="ln=17"):
        hash_password("x", SALT, Cost(ln=17, r=8, p=1))


HASH = base64.b64encode(hashlib.sha256(b"").digest()).decode().rstrip("=")
GOOD = f"$scrypt$ln=1,r=1,p=1$c2FsdHNhbHQ${HASH}"


def test_what_the_bad_ones_are_made_of_is_good() -> None:
    check_encoded(GOOD)


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "hunter2",
        "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$" + HASH,
        GOOD[1:],
        GOOD + "\n",
        GOOD + "=",
        GOOD.replace("r=1,p=1", "p=1,r=1"),
        GOOD.replace("ln=1", "ln=0"),
        GOOD.replace("ln=1", "ln=01"),
        GOOD.replace("ln=1", "ln=١"),  # noqa: RUF001 (a digit that is not ASCII is the point)
        GOOD.replace("c2FsdHNhbHQ", "c2FsdHNhbHQhI"),
        GOOD.replace("c2FsdHNhbHQ", "c2Fsd"),
        GOOD.replace("c2FsdHNhbHQ", "YQ"),
        GOOD.replace(HASH, "YWJjZGVm"),
        GOOD.replace(HASH, HASH * 3),
        GOOD.replace(HASH, "A" * 100_000),
    ],
    ids=lambda text: text[:60],
)
def test_what_is_no_hash_is_told_without_a_word_of_it(encoded: str) -> None:
    with pytest.raises(UnreadablePasswordHash) as error:
        verify_password("x", encoded)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "cost",
    [
        "ln=16,r=9,p=1",
        "ln=17,r=8,p=1",
        "ln=99,r=8,p=1",
        "ln=14,r=8,p=9",
        "ln=1,r=999,p=999",
        "ln=14,r=8,p=999",
    ],
)
def test_a_hash_that_asks_for_too_much_is_refused_before_it_costs(
    cost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(hashlib, "scrypt")
    with pytest.raises(UnreadablePasswordHash, match="asks for"):
        verify_password("x", GOOD.replace("ln=1,r=1,p=1", cost))


@given(
    st.builds(
        Cost,
        ln=st.integers(min_value=1, max_value=99),
        r=st.integers(min_value=1, max_value=999),
        p=st.integers(min_value=1, max_value=999),
    )
)
def test_what_is_bearable_is_within_the_bounds(cost: Cost) -> None:
    within = 128 * cost.r * 2**cost.ln <= MAX_MEMORY and cost.r * cost.p * 2**cost.ln <= MAX_WORK
    assert cost.is_bearable is within
