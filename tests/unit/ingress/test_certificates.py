"""The certificate in force: what is taken at the start, what takes its place, and what does not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from empath.domain.errors import ConfigError, SecretTrouble
from empath.ingress.certificates import (
    READ_EVERY,
    REPEAT_AFTER,
    CertificateFiles,
    CertificateSecret,
    ServerCertificate,
    Source,
)
from empath.ingress.pem import KeyPair
from empath.testing.certificates import FOR_SERVERS, Authority, client_context, self_signed
from empath.testing.clock import START, ManualClock
from empath.testing.faults import Faults
from empath.testing.memory_secrets import MemorySecrets
from empath.testing.metrics import CountedMetrics
from tests.unit.ingress.encrypted import connect, identity_of, serving

DAY = timedelta(days=1)
ARN = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:mx-AbCdEf"


def pair(begins: timedelta = -DAY, ends: timedelta = 90 * DAY) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, by what the manual clock says."""
    return self_signed("mx.example", validity=(START + begins, START + ends))


class Bench:
    """A pair of files, what follows them, and what was counted."""

    def __init__(self, folder: Path) -> None:
        self.files = CertificateFiles(folder / "certificate.pem", folder / "key.pem")
        self.client_ca = folder / "clients.pem"
        self.clock = ManualClock()
        self.metrics = CountedMetrics()

    def write(self, certificate: bytes, key: bytes) -> None:
        self.files.certificate.write_bytes(certificate)
        self.files.key.write_bytes(key)

    async def open(self, source: Source | None = None, client_ca: Path | None = None) -> ServerCertificate:
        return await ServerCertificate.open(
            source or self.files, clock=self.clock, metrics=self.metrics, client_ca=client_ca
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.write(*pair())
    return bench


async def test_a_new_certificate_is_for_new_handshakes_and_sessions_go_on(bench: Bench) -> None:
    old, new = pair(), pair()
    bench.write(*old)
    certificate = await bench.open()
    async with serving(certificate) as (port, _):
        reader, writer = await connect(port, client_context())
        assert await reader.readline() == b"-\n"
        bench.write(*new)
        assert await certificate.reread()
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        writer.close()
        for shown, is_in_force in ((old, False), (new, True)):
            trusting = client_context(shown[0])
            trusting.verify_flags |= 0x200000  # whatever the time is
            assert bool(await identity_of(port, trusting)) is is_in_force


async def test_the_source_is_read_again_and_again(bench: Bench) -> None:
    certificate = await bench.open()
    following = asyncio.create_task(certificate.keep_fresh(READ_EVERY))
    try:
        for renewed in (1, 2):
            bench.write(*pair(ends=renewed * 100 * DAY))
            while bench.metrics.counts["certificate_renewed"] < renewed:  # files are read in a thread
                await bench.clock.run_for(READ_EVERY)
            assert certificate.ends == START + renewed * 100 * DAY
    finally:
        following.cancel()


async def test_what_has_not_changed_is_not_taken_anew(bench: Bench) -> None:
    certificate = await bench.open()
    context = certificate.context
    os.utime(bench.files.key, (0, 0))
    assert not await certificate.reread()
    assert certificate.context is context
    assert not bench.metrics.counts


NO_GOOD = {
    "nothing": ((b"", b""), "no PEM certificate"),
    "another's key": ((pair()[0], pair()[1]), r"the private key is not the certificate's"),
    "not for servers": (Authority().issue(["mx.example"]), "certificate purpose"),
    "no certificate": ((b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n", pair()[1]), ""),
}
OUT_OF_TIME = {
    "expired": (pair(ends=timedelta(0)), "expired on 2026-03-01"),
    "not yet valid": (pair(begins=2 * DAY), "counts from 2026-03-03 12:00 UTC on"),
}


@pytest.mark.parametrize(("new", "words"), [*NO_GOOD.values(), *OUT_OF_TIME.values()])
async def test_what_is_new_and_no_good_leaves_the_old_in_force(
    bench: Bench, caplog: pytest.LogCaptureFixture, new: tuple[bytes, bytes], words: str
) -> None:
    certificate = await bench.open()
    context = certificate.context
    bench.write(*new)
    for _ in range(3):
        assert not await certificate.reread()
    assert certificate.context is context
    assert bench.metrics.counts == {"certificate_unusable": 3}
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert words in record.__dict__["detail"]
    caplog.clear()
    bench.clock.advance(REPEAT_AFTER.total_seconds())
    await certificate.reread()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize(("new", "words"), NO_GOOD.values(), ids=NO_GOOD)
async def test_what_is_no_good_at_the_start_is_named(
    bench: Bench, new: tuple[bytes, bytes], words: str
) -> None:
    bench.write(*new)
    with pytest.raises(ConfigError, match=f"^EMPATH_TLS_CERTIFICATE and EMPATH_TLS_KEY: .*{words}"):
        await bench.open()


async def test_a_certificate_whose_time_is_still_to_come_is_taken_when_it_has_come(bench: Bench) -> None:
    certificate = await bench.open()
    bench.write(*pair(begins=2 * DAY, ends=80 * DAY))
    assert not await certificate.reread()
    bench.clock.advance((2 * DAY).total_seconds())
    assert await certificate.reread()
    assert certificate.ends == START + 80 * DAY


async def test_files_that_are_replaced_one_after_the_other_are_taken_once_they_fit(bench: Bench) -> None:
    certificate = await bench.open()
    new, key = pair(ends=80 * DAY)
    bench.files.certificate.write_bytes(new)
    assert not await certificate.reread()
    bench.files.key.write_bytes(key)
    assert await certificate.reread()


async def test_a_file_that_is_gone_leaves_the_old_in_force(bench: Bench) -> None:
    certificate = await bench.open()
    bench.files.key.unlink()
    assert not await certificate.reread()
    assert bench.metrics.counts["certificate_unusable"] == 1


async def test_expiry_is_told_of_fourteen_days_ahead_and_counted_each_time(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.write(*pair(ends=15 * DAY))
    certificate = await bench.open()
    bench.clock.advance(DAY.total_seconds())
    await certificate.reread()
    assert not bench.metrics.counts
    bench.clock.advance(1)
    for _ in range(2):
        await certificate.reread()
    assert bench.metrics.counts == {"certificate_expires_soon": 2}
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.__dict__["detail"] == "it counts from 2026-02-28 to 2026-03-16 12:00 UTC"


async def test_an_expired_certificate_at_the_start_is_served_and_complained_of(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.write(*pair(ends=-timedelta(hours=1)))
    certificate = await bench.open()
    assert bench.metrics.counts == {"certificate_expired": 1}
    assert "the certificate in force is not valid now" in caplog.messages
    async with serving(certificate) as (port, _):
        assert await identity_of(port, client_context()) == "-"
    bench.write(*pair())
    assert await certificate.reread()


async def test_files_that_cannot_be_read_at_the_start_are_named(bench: Bench) -> None:
    bench.files.key.unlink()
    with pytest.raises(
        ConfigError, match=r"^EMPATH_TLS_CERTIFICATE and EMPATH_TLS_KEY: cannot read .*key\.pem"
    ):
        await bench.open()


# From a secret.


def value_of(certificate: bytes, key: bytes) -> str:
    return json.dumps({"certificate": certificate.decode(), "key": key.decode()})


async def test_a_secrets_new_value_is_taken_up(bench: Bench) -> None:
    secrets = MemorySecrets({ARN: value_of(*pair())})
    certificate = await bench.open(CertificateSecret(secrets, ARN))
    assert not await certificate.reread()
    secrets.values[ARN] = value_of(*pair(ends=80 * DAY))
    assert await certificate.reread()
    assert certificate.ends == START + 80 * DAY


@pytest.mark.parametrize("value", [None, "{}", "{", value_of(pair()[0], pair()[1])])
async def test_a_secret_that_cannot_be_used_is_named_at_the_start(bench: Bench, value: str | None) -> None:
    secrets = MemorySecrets({} if value is None else {ARN: value})
    with pytest.raises(ConfigError, match=r"^EMPATH_TLS_SECRET: "):
        await bench.open(CertificateSecret(secrets, ARN))


async def test_trouble_with_secrets_is_trouble_at_the_start_and_harmless_later(bench: Bench) -> None:
    faults = Faults()
    secrets = faults.wrap("secrets", MemorySecrets({ARN: value_of(*pair())}), SecretTrouble)
    faults.fail("secrets.text", times=1)
    with pytest.raises(SecretTrouble, match=r"^EMPATH_TLS_SECRET: "):
        await bench.open(CertificateSecret(secrets, ARN))
    certificate = await bench.open(CertificateSecret(secrets, ARN))
    faults.fail("secrets.text", times=1)
    assert not await certificate.reread()
    assert bench.metrics.counts == {"certificate_unusable": 1}


# Clients' certificates.


async def test_new_authorities_count_from_the_next_handshake_on(bench: Bench) -> None:
    first, second = Authority(), Authority()
    bench.client_ca.write_bytes(first.certificate)
    certificate = await bench.open(client_ca=bench.client_ca)
    async with serving(certificate) as (port, _):
        for authority in (first, second):
            bench.client_ca.write_bytes(authority.certificate)
            await certificate.reread()
            for issuer, name in ((first, "one"), (second, "two")):
                client = client_context(certificate=issuer.issue([name]))
                assert await identity_of(port, client) == (name if issuer is authority else "")


@pytest.mark.parametrize("text", [None, b"", pair()[1], Authority().certificate[:200]])
async def test_authorities_that_cannot_be_used_are_named(bench: Bench, text: bytes | None) -> None:
    if text is not None:
        bench.client_ca.write_bytes(text)
    with pytest.raises(ConfigError, match=r"^EMPATH_TLS_CLIENT_CA: .*clients\.pem"):
        await bench.open(client_ca=bench.client_ca)


# The context.


async def test_a_chain_is_sent_whole(bench: Bench) -> None:
    authority = Authority()
    own, key = authority.issue(["mx.example"], dns=["mx.example"], purpose=FOR_SERVERS)
    bench.write(own + authority.certificate, key)
    certificate = await bench.open()
    async with serving(certificate) as (port, _):
        assert await identity_of(port, client_context(authority.certificate)) == "-"


async def test_nothing_older_than_tls_1_2_is_spoken(bench: Bench) -> None:
    """RFC 8996 §5; the client would take it."""
    old = client_context()
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(await bench.open()) as (port, failures):
        assert await identity_of(port, old) == ""
        assert "UNSUPPORTED_PROTOCOL" in await failures.get()


async def test_no_tickets_are_given(bench: Bench) -> None:
    certificate = await bench.open()
    async with serving(certificate) as (port, _):
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            client = client_context()
            client.maximum_version = version
            reader, writer = await connect(port, client)
            await reader.readline()
            tls = writer.get_extra_info("ssl_object")
            assert tls.version() == name
            assert not tls.session.has_ticket
            writer.close()


def test_a_key_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from empath.ingress.tls import make_context

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    make_context(KeyPair.of(*pair()))
    monkeypatch.delattr(os, "memfd_create")  # as on other systems than Linux
    seen: list[int] = []
    monkeypatch.setattr(
        "ssl.SSLContext.load_cert_chain", lambda self, path: seen.append(Path(path).stat().st_mode & 0o777)
    )
    make_context(KeyPair.of(*pair()))
    assert seen == [0o600]
    assert list(tmp_path.iterdir()) == []
