"""Smarthosts and mail stores over sockets: order, login, TLS, and what a wrong setting comes to."""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from empath.domain.errors import TransientRefusal
from empath.domain.outcome import Deferred, Failed, Sent
from empath.domain.policy import read_policy
from empath.domain.reason import Reason
from empath.net.dialer import SmtpDialer
from empath.net.tls import TlsContexts
from empath.pipeline.named_hosts import ToSmarthost, ToStore
from empath.pipeline.secret_memory import KEPT, SecretMemory
from empath.ports import Credentials, Endpoint, Handover, Transaction
from empath.testing.certificates import self_signed, server_context, serving
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.memory_secrets import MemorySecrets
from empath.testing.route_sinks import LmtpSink, RelaySink
from empath.testing.smtp_sink import DROP, Script, SmtpSink
from empath.testing.zones import Node

ANN, BOB, CAT = "ann@dest.test", "bob@dest.test", "cat@dest.test"
PASSWORD = "correct horse battery"
CERTIFICATE, KEY = self_signed("relay.test")


def tls(name: str = "relay.test") -> Any:
    return serving(CERTIFICATE, KEY) if name == "relay.test" else server_context(name)


class Relay:
    """A smarthost route with what it stands on."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.resolver = ZoneResolver(
            {"relay.test": Node(a=["127.0.0.1"]), "other.test": Node(a=["127.0.0.1"]), "none.test": Node()}
        )
        self.secrets = MemorySecrets({"login": json.dumps({"username": "us", "password": PASSWORD})})
        dialer = SmtpDialer("us.test", contexts=TlsContexts(CERTIFICATE))
        ids = SequentialIds()
        self.smarthost = ToSmarthost(self.resolver, dialer, ids, SecretMemory(self.secrets, self.clock))
        self.store = ToStore(self.resolver, dialer, ids)

    async def send(self, *hosts: Any, kind: str = "smarthost", **settings: Any) -> Handover:
        policy = {"allow_addresses": ["127.0.0.0/8"], **settings.pop("policy", {})}
        policy["route"] = {"kind": kind, "hosts": list(hosts), **settings}
        route = self.smarthost if kind == "smarthost" else self.store
        hop = await route.find("dest.test", read_policy(policy))

        async def read() -> AsyncIterator[bytes]:
            yield b"Subject: x\r\n\r\nx\r\n"

        mail = Transaction("us@us.test", [ANN, BOB, CAT], read, 18, name="id")
        return await hop.deliver(mail, time_left=lambda: 10)


def only(done: Handover) -> tuple[type, Reason | None, str]:
    [said] = {(type(outcome), outcome.reason, outcome.reply.text) for outcome in done.outcomes.values()}
    return said


def only_kind(done: Handover) -> type:
    [kind] = {type(outcome) for outcome in done.outcomes.values()}
    return kind


async def test_lower_preference_first_and_the_next_host_when_it_does_not_answer() -> None:
    async with SmtpSink({"connect": DROP}) as first, SmtpSink() as second, SmtpSink() as third:
        done = await Relay().send(
            {"host": "relay.test", "port": third.port, "preference": 30},
            {"host": "relay.test", "port": first.port, "preference": 10},
            {"host": "relay.test", "port": second.port, "preference": 20},
        )
        assert only(done)[0] is Sent
        assert (first.connections, len(second.accepted), third.connections) == (1, 1, 0)


async def test_equal_preferences_share() -> None:
    async with SmtpSink() as one, SmtpSink() as two:
        relay = Relay()
        for _ in range(20):
            await relay.send(
                {"host": "relay.test", "port": one.port}, {"host": "relay.test", "port": two.port}
            )
        assert len(one.accepted) > 0 < len(two.accepted)


@pytest.mark.parametrize("methods", ["PLAIN LOGIN", "LOGIN", "PLAIN", "CRAM-MD5 PLAIN"])
@pytest.mark.parametrize("encryption", ["starttls", "implicit"])
async def test_the_login_is_said_in_tls_that_was_verified(methods: str, encryption: str) -> None:
    implicit = tls() if encryption == "implicit" else None
    sink = RelaySink(logins={"us": PASSWORD}, methods=methods, tls=None if implicit else tls())
    await sink.start(implicit=implicit)
    try:
        done = await Relay().send(
            {"host": "relay.test", "port": sink.port}, secret="login", encryption=encryption
        )
    finally:
        await sink.stop()
    assert only(done)[0] is Sent
    assert done.tls is not None
    assert sink.heard_logins == [("PLAIN" if "PLAIN" in methods else "LOGIN", "us", PASSWORD)]


async def test_without_tls_no_password_is_said() -> None:
    async with RelaySink(logins={"us": PASSWORD}) as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port}, secret="login")
        assert only(done)[:2] == (Deferred, Reason.TLS_FAILED)
        assert sink.heard_logins == []


async def test_the_dialer_itself_says_no_password_in_plain() -> None:
    async with RelaySink(logins={"us": PASSWORD}) as sink:
        endpoint = Endpoint(
            "relay.test",
            ipaddress.ip_address("127.0.0.1"),
            sink.port,
            allow_addresses=(ipaddress.ip_network("127.0.0.0/8"),),
            credentials=Credentials("us", PASSWORD),
        )
        with pytest.raises(TransientRefusal, match="AUTH needs TLS"):
            await SmtpDialer("us.test").connect(endpoint, deadline=10)
        assert sink.heard_logins == []
        assert PASSWORD not in repr(endpoint)


async def test_to_whoever_shows_another_certificate_no_password_is_said() -> None:
    async with RelaySink(logins={"us": PASSWORD}, tls=tls("somebody.test")) as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port}, secret="login")
        assert only(done)[:2] == (Deferred, Reason.TLS_FAILED)
        assert sink.heard_logins == []


async def test_a_refused_login_defers_and_says_so_without_the_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with RelaySink(logins={}, tls=tls()) as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port}, secret="login")
    kind, reason, text = only(done)
    assert (kind, reason) == (Deferred, Reason.AUTH_FAILED)
    assert "refused AUTH: 535 5.7.8" in text
    assert PASSWORD not in text + caplog.text + repr(done)


async def test_a_host_without_a_way_to_log_in_defers() -> None:
    async with RelaySink(logins={}, methods="GSSAPI", tls=tls()) as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port}, secret="login")
    assert only(done)[:2] == (Deferred, Reason.AUTH_FAILED)


@pytest.mark.parametrize(
    "reply", ["530 5.7.0 Authentication required", "530 5.7.0 Must issue a STARTTLS command first"]
)
async def test_a_smarthost_that_wants_a_login_or_tls_first_refuses_no_mail(reply: str) -> None:
    async with SmtpSink({"MAIL": reply}) as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port})
    kind, reason, text = only(done)
    assert (kind, reason) == (Deferred, Reason.ROUTE_UNUSABLE)
    assert reply in text


async def test_what_else_a_smarthost_refuses_is_refused() -> None:
    script: Script = {f"RCPT {ANN}": "550 5.1.1 Unknown", f"RCPT {BOB}": "554 5.7.1 Relay access denied"}
    async with SmtpSink(script) as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port})
    assert [type(done.outcomes[address]) for address in (ANN, BOB, CAT)] == [Failed, Failed, Sent]


@pytest.mark.parametrize(
    "value", [None, "just a word", '{"username": "us"}', '{"username": "", "password": "x"}']
)
async def test_a_secret_that_is_no_login_costs_time_and_is_not_quoted(value: str | None) -> None:
    relay = Relay()
    relay.secrets.values = {} if value is None else {"login": value}
    done = await relay.send({"host": "relay.test"}, secret="login")
    kind, reason, text = only(done)
    assert (kind, reason) == (Deferred, Reason.ROUTE_UNUSABLE)
    assert "'login'" in text
    assert value is None or value not in text


async def test_a_secret_is_read_once_in_five_minutes_and_then_anew() -> None:
    relay = Relay()
    memory = SecretMemory(relay.secrets, relay.clock)
    assert (await memory.credentials("login")).password == PASSWORD
    relay.secrets.values["login"] = json.dumps({"username": "us", "password": "rotated"})
    assert (await memory.credentials("login")).password == PASSWORD
    relay.clock.advance_to(relay.clock.now() + KEPT)
    assert (await memory.credentials("login")).password == "rotated"


@pytest.mark.parametrize(
    ("host", "allow"), [("none.test", []), ("nosuch.test", []), ("relay.test", []), ("169.254.169.254", [])]
)
async def test_a_host_that_cannot_be_connected_to_is_a_setting_and_costs_time(
    host: str, allow: list[str]
) -> None:
    done = await Relay().send({"host": host}, policy={"allow_addresses": allow})
    assert only(done)[:2] == (Deferred, Reason.ROUTE_UNUSABLE)


async def test_an_address_is_as_good_as_a_name() -> None:
    async with SmtpSink() as sink:
        done = await Relay().send({"host": "127.0.0.1", "port": sink.port})
        assert only(done)[0] is Sent
        assert done.next_hop == f"127.0.0.1[127.0.0.1]:{sink.port}"


async def test_a_mail_store_answers_for_each_recipient_after_the_message() -> None:
    script = {
        f"delivered {BOB}": "552 5.2.2 Mailbox full",
        f"delivered {CAT}": "452 4.3.1 Disk full",
    }
    async with LmtpSink(script) as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port}, kind="lmtp")
        assert [type(done.outcomes[to]) for to in (ANN, BOB, CAT)] == [Sent, Failed, Deferred]
        assert done.outcomes[BOB].reply.text == "Mailbox full"
        commands = sink.sessions[0].commands
        assert (commands[0], commands[-1]) == ("LHLO us.test", "QUIT")


async def test_answers_in_any_pieces_are_the_same_answers() -> None:
    script = {"delivered": ["250 2.1.5 Ok", "552-5.2.2 Mailbox\n552 5.2.2 full", "452 4.3.1 Disk full"]}
    async with LmtpSink(script, splits=True) as sink:  # type: ignore[arg-type]
        done = await Relay().send({"host": "relay.test", "port": sink.port}, kind="lmtp")
        assert [type(done.outcomes[to]) for to in (ANN, BOB, CAT)] == [Sent, Failed, Deferred]


async def test_a_store_with_chunking_is_given_data_all_the_same() -> None:
    async with LmtpSink(extensions=("PIPELINING", "CHUNKING")) as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port}, kind="lmtp")
        assert only_kind(done) is Sent
        assert "DATA" in sink.sessions[0].commands


async def test_recipients_refused_before_the_message_get_no_second_answer() -> None:
    async with LmtpSink({f"RCPT {BOB}": "550 5.1.1 Unknown", f"delivered {CAT}": "452 4.3.1 Full"}) as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port}, kind="lmtp")
        assert [type(done.outcomes[to]) for to in (ANN, BOB, CAT)] == [Sent, Failed, Deferred]


async def test_who_was_answered_for_before_the_connection_broke_is_not_in_doubt() -> None:
    async with LmtpSink({f"delivered {BOB}": DROP}) as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port}, kind="lmtp")
        assert [type(done.outcomes[to]) for to in (ANN, BOB, CAT)] == [Sent, Deferred, Deferred]
        assert done.ambiguous


async def test_who_was_answered_for_before_nonsense_came_is_not_in_doubt() -> None:
    async with LmtpSink({f"delivered {BOB}": b"what?\r\n"}) as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port}, kind="lmtp")
        assert [type(done.outcomes[to]) for to in (ANN, BOB, CAT)] == [Sent, Deferred, Deferred]
        assert done.ambiguous


async def test_a_server_of_smtp_is_no_mail_store() -> None:
    async with SmtpSink() as sink:
        done = await Relay().send({"host": "relay.test", "port": sink.port}, kind="lmtp")
        assert not any(isinstance(outcome, Sent) for outcome in done.outcomes.values())
        assert sink.messages == []
