"""What is told apart in PEM texts, and what is said of texts that are none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.errors import ConfigError
from empath.ingress.pem import KeyPair
from empath.testing.certificates import Authority, self_signed

CERTIFICATE, KEY = self_signed("mx.example")


def secret(**parts: object) -> str:
    return json.dumps(parts)


def test_what_programs_write_around_the_blocks_does_not_count() -> None:
    noise = "Bag Attributes\n    friendlyName: Schlüssel\n".encode()
    issuer = Authority().certificate
    pair = KeyPair.of(noise + CERTIFICATE + noise + issuer, b"\r\n" + KEY.replace(b"\n", b"\r\n"))
    assert pair.chain == CERTIFICATE + issuer
    assert pair.key.count(b"-----") == 4


def test_a_secret_is_json_or_one_pem_with_both() -> None:
    pair = KeyPair.of(CERTIFICATE, KEY)
    assert KeyPair.of_secret(secret(certificate=CERTIFICATE.decode(), key=KEY.decode(), note=1)) == pair
    assert KeyPair.of_secret((KEY + CERTIFICATE).decode()) == pair


def encrypted(label: bytes, headers: bytes = b"") -> bytes:
    return b"-----BEGIN %s-----\n%sAAAA\n-----END %s-----\n" % (label, headers, label)


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        (b"", KEY, "no PEM certificate"),
        (KEY, CERTIFICATE, "no PEM certificate"),
        (CERTIFICATE, CERTIFICATE, "no PEM private key"),
        (CERTIFICATE, KEY[:-30], "no PEM private key"),
        (CERTIFICATE, KEY + KEY, "more than one private key"),
        (CERTIFICATE, encrypted(b"ENCRYPTED PRIVATE KEY"), "is encrypted"),
        (CERTIFICATE, encrypted(b"RSA PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED\n\n"), "is encrypted"),
    ],
)
def test_what_is_missing_is_said(certificate: bytes, key: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        KeyPair.of(certificate, key)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no PEM certificate"),
        ('{"certificate": ', "begins like JSON and is none"),
        ("{" * 100_000, "begins like JSON and is none"),
        (secret(key=KEY.decode()), 'lacks "certificate"'),
        (secret(certificate=CERTIFICATE.decode()), 'lacks "key"'),
        (secret(certificate=CERTIFICATE.decode(), key=None), 'lacks "key"'),
        (secret(certificate="\ud800", key=KEY.decode()), "no PEM certificate"),
        (CERTIFICATE.decode(), "no PEM private key"),
    ],
)
def test_a_secret_of_another_shape_is_told_what_it_lacks(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        KeyPair.of_secret(text)


@given(st.text() | st.dictionaries(st.sampled_from(["certificate", "key"]), st.text()).map(json.dumps))
def test_any_text_is_a_pair_or_an_error_that_quotes_nothing_of_it(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        KeyPair.of_secret("k3y" + text)
    assert "k3y" not in str(raised.value)


def test_a_pair_does_not_show_its_key() -> None:
    assert KEY.decode().splitlines()[1] not in repr(KeyPair.of(CERTIFICATE, KEY))
