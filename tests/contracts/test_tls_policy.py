"""Every way to treat TLS meets everything a next hop may do about it: what mail gets, and what is kept of it.

plain        sent without TLS
unverified   sent in TLS, to whoever it was
verified     sent in TLS to whom the name belongs
invalid      sent in TLS although the certificate is not valid, with a warning
4.7.4 4.7.5  not sent, and why (RFC 3463 §3.8)
"""

from __future__ import annotations

import datetime
import logging
import ssl
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from empath.domain.errors import InvalidPolicy, TransientRefusal
from empath.domain.policy import read_policy
from empath.domain.reason import Reason
from empath.domain.tls import TlsSession
from empath.net.dialer import SmtpDialer
from empath.net.tls import TlsContexts
from empath.ports import Endpoint
from empath.testing.certificates import FOR_SERVERS, Authority, self_signed, serving
from empath.testing.metrics import CountedMetrics
from empath.testing.smtp_sink import DROP, RESET, Act, Script, SmtpSink
from tests.unit.net.sending import HURRIED, endpoint, send, shorts, transaction

HOST = "mx.sink.test"
NAME = "mail.by-policy.test"
LAST_YEAR = (
    datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(2025, 12, 31, tzinfo=datetime.UTC),
)
AUTHORITY = Authority()
CONTEXTS = TlsContexts(AUTHORITY.certificate)


def issued(name: str = HOST, **how: object) -> ssl.SSLContext:
    return serving(*AUTHORITY.issue([name], dns=[name], purpose=FOR_SERVERS, **how))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Hop:
    """What a next hop does about TLS."""

    context: ssl.SSLContext | None
    script: Script


VALID = issued()
STRANGER = Authority("Another")
HOPS = {
    "none offered": Hop(None, {}),
    "offered and refused": Hop(VALID, {"STARTTLS": "454 4.7.0 Not now"}),
    "offered and unknown": Hop(VALID, {"STARTTLS": "502 5.5.1 What"}),
    "dropped in the handshake": Hop(VALID, {"handshake": DROP}),
    "reset in the handshake": Hop(VALID, {"handshake": RESET}),
    "garbage for a handshake": Hop(VALID, {"handshake": Act(b"220 plain text\r\n", then="close")}),
    "self-signed": Hop(serving(*self_signed(HOST)), {}),
    "another authority": Hop(serving(*STRANGER.issue([HOST], dns=[HOST], purpose=FOR_SERVERS)), {}),
    "another name": Hop(issued("other.test"), {}),
    "a name in the subject only": Hop(serving(*AUTHORITY.issue([HOST], purpose=FOR_SERVERS)), {}),
    "expired": Hop(issued(validity=LAST_YEAR), {}),
    "for clients": Hop(serving(*AUTHORITY.issue([HOST], dns=[HOST])), {}),
    "valid": Hop(VALID, {}),
    "valid for a wildcard": Hop(issued("*.sink.test"), {}),
    "valid for policy's name": Hop(issued(NAME), {}),
}
UNTRUSTED = (
    "self-signed",
    "another authority",
    "another name",
    "a name in the subject only",
    "expired",
    "for clients",
)
BROKEN = tuple(HOPS)[1:6]
GOOD = ("valid", "valid for a wildcard")
OTHERS_NAME = "valid for policy's name"

MODES: dict[str, dict[str, object]] = {
    "opportunistic": {},
    "required": {"tls": "required"},
    "verified": {"tls": "verified"},
    "verified, invalid accepted": {"tls": "verified", "accept_invalid_certs": True},
    "verified by name": {"tls": "verified", "tls_name": NAME},
    "disabled": {"tls": "disabled"},
    "opportunistic, invalid accepted": {"accept_invalid_certs": True},
}


def row(offered: str, broken: str, untrusted: str, good: str, by_name: str) -> dict[str, str]:
    return (
        {"none offered": offered}
        | dict.fromkeys(BROKEN, broken)
        | dict.fromkeys(UNTRUSTED, untrusted)
        | dict.fromkeys(GOOD, good)
        | {OTHERS_NAME: by_name}
    )


OUTCOMES = {
    "opportunistic": row("plain", "plain", "unverified", "unverified", "unverified"),
    "required": row("4.7.4", "4.7.5", "unverified", "unverified", "unverified"),
    "verified": row("4.7.4", "4.7.5", "4.7.5", "verified", "4.7.5"),
    "verified, invalid accepted": row("4.7.4", "4.7.5", "invalid", "verified", "invalid"),
    "verified by name": row("4.7.4", "4.7.5", "4.7.5", "4.7.5", "verified"),
    "disabled": row("plain", "plain", "plain", "plain", "plain"),
    "opportunistic, invalid accepted": row("plain", "plain", "unverified", "unverified", "unverified"),
}


class Client:
    def __init__(self, contexts: TlsContexts = CONTEXTS) -> None:
        self.metrics = CountedMetrics()
        self.dialer = SmtpDialer(
            "relay.example.test", timeouts=HURRIED, contexts=contexts, metrics=self.metrics
        )

    async def send(self, target: Endpoint) -> str:
        """What comes of a message: the line that is kept of TLS, `plain`, or the status of a refusal."""
        try:
            channel = await self.dialer.connect(target, deadline=20)
        except TransientRefusal as refusal:
            assert refusal.reason is Reason.TLS_FAILED
            return str(refusal.reply.status)
        result = await channel.transact(transaction())
        await channel.close()
        assert set(shorts(result).values()) == {"sent 250"}
        return channel.tls or "plain"


def target_by(sink: SmtpSink, settings: dict[str, object]) -> Endpoint:
    policy = read_policy(settings)
    return replace(
        endpoint(sink, policy.tls), tls_name=policy.tls_name, accept_invalid_certs=policy.accept_invalid_certs
    )


@pytest.mark.parametrize("hop", HOPS)
@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_with_everything_that_a_next_hop_does(
    mode: str, hop: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="empath.net.dialer")
    expected = OUTCOMES[mode][hop]
    client = Client()
    async with SmtpSink(HOPS[hop].script, tls=HOPS[hop].context) as sink:
        outcome = await client.send(target_by(sink, MODES[mode]))
    if expected in ("unverified", "verified", "invalid"):
        session = TlsSession.read(outcome)
        assert session.verification.partition(":")[0] == expected
        assert session.peer == (NAME if "by name" in mode else HOST)
        assert sink.sessions[-1].tls == session.cipher
    else:
        assert outcome == expected
        assert bool(sink.accepted) is (expected == "plain")
    goes_again = expected == "invalid" or ("opportunistic" in mode and hop in BROKEN)
    assert sink.connections == (2 if goes_again else 1)
    # What failed is counted by the mode and logged by the host, and what was accepted all the same is told
    # each time.
    failed = expected[:2] == "4." or goes_again
    assert client.metrics.counts[f"tls_failed_{read_policy(MODES[mode]).tls}"] == failed
    told = [record for record in caplog.records if record.message == "TLS with a next hop failed"]
    assert [record.__dict__["goes_on"] for record in told] == (
        [{"invalid": "unchecked", "plain": "plain"}.get(expected)] if failed else []
    )
    assert client.metrics.counts["tls_invalid_accepted"] == (expected == "invalid")
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == (expected == "invalid")


@pytest.mark.parametrize(
    ("hop", "words"),
    [
        ("self-signed", "self-signed certificate"),
        ("another authority", "unable to get local issuer certificate"),
        ("another name", "Hostname mismatch, certificate is not valid for 'mx.sink.test'"),
        ("expired", "certificate has expired"),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_said_where_it_is_refused_and_kept_where_it_is_not(
    hop: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with SmtpSink(tls=HOPS[hop].context) as sink:
        with pytest.raises(TransientRefusal) as caught:
            await Client().dialer.connect(target_by(sink, MODES["verified"]), deadline=20)
        kept = await Client().send(target_by(sink, MODES["verified, invalid accepted"]))
    assert f"certificate not valid: {words}" in caught.value.reply.text.replace("self signed", "self-signed")
    assert TlsSession.read(kept).verification.replace("self signed", "self-signed") == f"invalid: {words}"
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.__dict__["certificate_for"] == HOST
    assert warning.__dict__["next_hop"].startswith(f"{HOST}[127.0.0.1]:")


async def test_no_octet_of_mail_goes_where_the_certificate_is_refused() -> None:
    async with SmtpSink(tls=HOPS["self-signed"].context) as sink:
        assert await Client().send(target_by(sink, MODES["verified"])) == "4.7.5"
    assert sink.connections == 1
    assert sink.sessions[0].commands == ["EHLO relay.example.test", "STARTTLS"]


async def test_an_address_is_verified_as_an_address() -> None:
    context = serving(*AUTHORITY.issue(["any"], dns=["127.0.0.1"], purpose=FOR_SERVERS))
    async with SmtpSink(tls=context) as sink:
        target = replace(target_by(sink, MODES["verified"]), host="[127.0.0.1]")
        kept = TlsSession.read(await Client().send(target))
    assert (kept.peer, kept.verification) == ("127.0.0.1", "verified")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "disabled"])
async def test_tls_from_the_first_octet_on_is_never_left_out(mode: str) -> None:
    client = Client()
    outcomes = {}
    async with SmtpSink() as plain:
        target = replace(target_by(plain, MODES[mode]), implicit_tls=True)
        with pytest.raises(TransientRefusal):
            await client.dialer.connect(target, deadline=20)
        assert not plain.accepted
    for hop in ("valid", "self-signed"):
        sink = await SmtpSink().start(implicit=HOPS[hop].context)
        outcome = await client.send(replace(target_by(sink, MODES[mode]), implicit_tls=True))
        await sink.stop()
        outcomes[hop] = TlsSession.read(outcome).verification[:10] if " " in outcome else outcome
    assert outcomes == {hop: OUTCOMES[mode][hop].replace("invalid", "invalid: s") for hop in outcomes}


class TestContexts:
    def test_each_is_made_once(self) -> None:
        contexts = TlsContexts()
        assert contexts.checked is contexts.checked
        assert contexts.unchecked is contexts.unchecked

    def test_the_systems_authorities_are_what_is_trusted(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = tmp_path / "authorities.pem"
        path.write_bytes(AUTHORITY.certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        assert [ca["subject"] for ca in TlsContexts().checked.get_ca_certs()] == [
            ((("commonName", "Test Authority"),),)
        ]

    def test_nothing_older_than_tls_1_2_is_spoken(self) -> None:
        for context in (TlsContexts().checked, TlsContexts().unchecked):
            assert context.minimum_version is ssl.TLSVersion.TLSv1_2


class TestPolicy:
    def test_by_default_tls_is_used_where_offered_and_nothing_invalid_is_accepted(self) -> None:
        policy = read_policy({})
        assert (policy.tls, policy.tls_name, policy.accept_invalid_certs) == ("opportunistic", None, False)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"tls": "always"}, "tls: Input should be 'opportunistic', 'required', 'verified' or 'disabled'"),
            ({"tls": "required", "tls_name": "a.test"}, "tls_name is looked at only where tls is verified"),
            ({"tls": "verified", "tls_name": "a b"}, "tls_name: a host is a name in A-labels"),
            ({"tls": "verified", "tls_name": ""}, "tls_name: "),
            ({"accept_invalid_certs": "perhaps"}, "accept_invalid_certs: "),
            ({"messages_per_connection": 0}, "messages_per_connection: "),
            ({"messages_per_connection": 10_001}, "messages_per_connection: "),
        ],
    )
    def test_what_cannot_be_is_refused_with_the_field_and_the_reason(
        self, settings: dict[str, object], words: str
    ) -> None:
        with pytest.raises(InvalidPolicy) as caught:
            read_policy(settings)
        assert words in str(caught.value)

    def test_names_are_kept_in_lower_case_without_the_final_dot(self) -> None:
        assert read_policy({"tls": "verified", "tls_name": "MX.Example.Test."}).tls_name == "mx.example.test"


class TestWhatIsKept:
    @pytest.mark.parametrize(
        "session",
        [
            TlsSession("TLSv1.3", "TLS_AES_256_GCM_SHA384", HOST, "verified"),
            TlsSession("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384", HOST, "invalid: certificate has expired"),
            TlsSession("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        ],
    )
    def test_a_line_is_read_as_it_was_written(self, session: TlsSession) -> None:
        assert TlsSession.read(str(session)) == session

    def test_older_records_have_protocol_and_cipher_only(self) -> None:
        old = TlsSession.read("TLSv1.3 TLS_AES_128_GCM_SHA256")
        assert old == TlsSession("TLSv1.3", "TLS_AES_128_GCM_SHA256")
        with pytest.raises(ValueError, match="not a TLS session"):
            TlsSession.read("none")


INSISTS: Script = {"MAIL": ["530 5.7.0 Must issue a STARTTLS command first"] * 2}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("opportunistic", "deferred 451 tls_failed"),  # what failed is TLS, which may be mended
        ("disabled", "failed 530 next_hop_reply"),  # what policy says cannot be had
    ],
)
async def test_a_next_hop_that_insists_on_tls_refuses_no_mail_because_tls_failed(
    mode: str, expected: str
) -> None:
    async with SmtpSink({"handshake": RESET, **INSISTS}, tls=VALID) as sink:
        result = await send(target_by(sink, MODES[mode]), by=Client().dialer)
    assert set(shorts(result).values()) == {expected}
    assert sink.accepted == []


async def test_without_tls_other_refusals_are_what_they_are() -> None:
    async with SmtpSink({"handshake": RESET, "RCPT": "550 5.1.1 Unknown"}, tls=VALID) as sink:
        result = await send(target_by(sink, MODES["opportunistic"]), by=Client().dialer)
    assert set(shorts(result).values()) == {"failed 550 next_hop_reply"}
