"""The local ingress's certificate: made once, private, renewed in time."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from empath.local.certificate import NAMES, RENEWED_AHEAD, VALID_FOR, LocalCertificate
from empath.testing.certificates import client_context

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def made(tmp_path: Path) -> LocalCertificate:
    certificate = LocalCertificate.of(tmp_path)
    assert certificate.provide(NOW)
    return certificate


def server(certificate: LocalCertificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


def trusts(client: ssl.SSLContext, context: ssl.SSLContext, name: str) -> bool:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = context.wrap_bio(incoming, outgoing, server_side=True)
    client_side = client.wrap_bio(outgoing, incoming, server_hostname=name)
    for side in (client_side, server_side) * 2:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            return False
    return client_side.version() is not None


@pytest.mark.parametrize("name", NAMES)
def test_whoever_is_told_of_the_file_trusts_it_by_every_name(made: LocalCertificate, name: str) -> None:
    client = client_context(made.certificate.read_bytes())
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 has it
    assert trusts(client, server(made), name)
    assert not trusts(client, server(made), "elsewhere.localhost")


def test_its_key_is_its_owners_alone(made: LocalCertificate) -> None:
    assert made.key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in made.key.parent.iterdir() if path.suffix == ".new"] == []


def test_it_stays_until_its_end_is_near(made: LocalCertificate) -> None:
    before = made.certificate.read_bytes()
    late = NOW + VALID_FOR - RENEWED_AHEAD
    assert not made.provide(late - timedelta(seconds=1))
    assert made.certificate.read_bytes() == before
    assert made.provide(late)
    assert made.certificate.read_bytes() != before


@pytest.mark.parametrize("left", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_broken_is_made_anew(made: LocalCertificate, left: bytes) -> None:
    for path in (made.certificate, made.key):
        path.write_bytes(left)
        assert made.provide(NOW)
        server(made)
        assert not made.provide(NOW)


def test_a_start_that_was_interrupted_between_the_two_files_is_mended(
    made: LocalCertificate, tmp_path: Path
) -> None:
    other = LocalCertificate.of(tmp_path / "other")
    other.provide(NOW)
    other.key.replace(made.key)
    assert made.provide(NOW)
    server(made)
