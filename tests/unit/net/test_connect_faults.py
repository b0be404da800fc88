"""Before any mail: connecting, greeting, EHLO, TLS and closing, each with its faults."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import socket
import ssl
import time

import pytest

from empath.domain.errors import PermanentRefusal, Refusal, TransientRefusal
from empath.domain.reason import Reason
from empath.net.dialer import SmtpDialer
from empath.ports import Endpoint
from empath.testing.certificates import server_context
from empath.testing.smtp_sink import DROP, RESET, STALL, Act, SmtpSink, Step
from tests.unit.net.sending import HURRIED, LOOPBACK, dialer, endpoint, send, shorts


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    return server_context()


async def refusal_from(sink: SmtpSink | int, **how: object) -> Refusal:
    with pytest.raises((TransientRefusal, PermanentRefusal)) as caught:
        await dialer().connect(endpoint(sink, **how), deadline=20)  # type: ignore[arg-type]
    return caught.value


FAULTS: dict[str, tuple[Step, type[Refusal], int, Reason]] = {
    "refuse": ("554 5.3.2 No", PermanentRefusal, 554, Reason.NEXT_HOP_REPLY),
    "defer": ("450 4.3.2 Later", TransientRefusal, 450, Reason.NEXT_HOP_REPLY),
    "hang up": (Act("421 4.3.2 Busy", then="close"), TransientRefusal, 421, Reason.NEXT_HOP_REPLY),
    "drop": (DROP, TransientRefusal, 451, Reason.CONNECTION_LOST),
    "reset": (RESET, TransientRefusal, 451, Reason.CONNECTION_LOST),
    "stall": (STALL, TransientRefusal, 451, Reason.TIMEOUT),
    "garbage": (b"\xff\x00\r\n", TransientRefusal, 451, Reason.PROTOCOL_ERROR),
    "endless line": (b"2" * 100_000, TransientRefusal, 451, Reason.PROTOCOL_ERROR),
    "endless reply": (b"220-x\r\n" * 10_000, TransientRefusal, 451, Reason.PROTOCOL_ERROR),
    "out of place": ("354 Go on", TransientRefusal, 451, Reason.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("stage", ["connect", "EHLO"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_session_that_does_not_begin_is_a_refusal_with_its_reason(stage: str, fault: str) -> None:
    step, kind, code, reason = FAULTS[fault]
    async with SmtpSink({stage: step, "HELO": step}) as sink:
        refusal = await refusal_from(sink)
    assert (type(refusal), refusal.reply.code, refusal.reason) == (kind, code, reason)


async def test_octets_behind_the_reply_to_ehlo_are_not_taken_for_the_next_reply() -> None:
    async with SmtpSink({"EHLO": b"250-mx\r\n250 PIPELINING\r\n250 injected\r\n"}) as sink:
        refusal = await refusal_from(sink)
    assert isinstance(refusal, TransientRefusal)
    assert refusal.reason is Reason.PROTOCOL_ERROR


async def test_the_greetings_words_are_kept() -> None:
    async with SmtpSink({"connect": "554 5.7.1 Your address is listed\n5.7.1 see example.test"}) as sink:
        refusal = await refusal_from(sink)
    assert str(refusal.reply) == "554 5.7.1 Your address is listed see example.test"


async def test_helo_where_ehlo_is_unknown() -> None:
    async with SmtpSink({"EHLO": "502 5.5.1 What"}) as sink:
        result = await send(sink)
    assert set(shorts(result).values()) == {"sent 250"}
    assert sink.sessions[0].commands[:3] == [
        "EHLO relay.example.test",
        "HELO relay.example.test",
        "MAIL FROM:<sender@example.test>",
    ]


async def test_a_refused_connection_is_transient() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refusal = await refusal_from(unused.getsockname()[1])
    assert isinstance(refusal, TransientRefusal)
    assert str(refusal.reply.status) == "4.4.1"
    assert refusal.reason is Reason.CONNECTION_FAILED
    assert "Connection refused" in refusal.reply.text


async def test_connecting_waits_no_longer_than_its_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        refusal = await refusal_from(port)
        for client in waiting:
            client.close()
    assert refusal.reason in {Reason.TIMEOUT}


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "::1"])
async def test_an_address_that_policy_does_not_allow_is_not_connected_to(address: str) -> None:
    async with SmtpSink() as sink:
        target = Endpoint("mx.sink.test", ipaddress.ip_address(address), sink.port)
        with pytest.raises(PermanentRefusal) as caught:
            await dialer().connect(target, deadline=5)
    assert caught.value.reason is Reason.ADDRESS_NOT_ALLOWED
    assert str(caught.value.reply.status) == "5.4.4"
    assert sink.connections == 0


async def test_ipv6_next_hops_are_reached() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    sink = SmtpSink()
    try:
        await sink.start("::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    channel = await dialer().connect(
        Endpoint("mx.sink.test", ipaddress.ip_address("::1"), sink.port, allow_addresses=LOOPBACK), deadline=5
    )
    await channel.close()
    await sink.stop()


async def test_tls_is_used_when_offered_although_nobody_knows_the_certificate(tls: ssl.SSLContext) -> None:
    async with SmtpSink(tls=tls) as sink:
        channel = await dialer().connect(endpoint(sink), deadline=20)
        assert channel.tls is not None
        assert channel.tls.startswith("TLSv1.3 TLS_")
        await channel.close()
        assert channel.tls is not None
    assert sink.sessions[0].commands == [
        "EHLO relay.example.test",
        "STARTTLS",
        "EHLO relay.example.test",
        "QUIT",
    ]


async def test_disabled_tls_is_not_tried(tls: ssl.SSLContext) -> None:
    async with SmtpSink(tls=tls) as sink:
        result = await send(sink, tls="disabled")
    assert set(shorts(result).values()) == {"sent 250"}
    assert "STARTTLS" not in sink.sessions[0].commands


TLS_FAULTS: dict[str, dict[str, Step | list[Step]]] = {
    "STARTTLS refused": {"STARTTLS": "454 4.7.0 Not now"},
    "STARTTLS hangs up": {"STARTTLS": [Act("421 4.3.2 No", then="close")]},
    "STARTTLS drops": {"STARTTLS": DROP},
    "STARTTLS stalls": {"STARTTLS": STALL},
    "STARTTLS garbage": {"STARTTLS": b"\xff\r\n"},
    "octets before STARTTLS": {"EHLO": [b"250-mx\r\n250 STARTTLS\r\n250 injected\r\n"]},
    "handshake garbage": {"handshake": Act(b"no TLS record at all", then="close")},
    "handshake alert": {"handshake": Act(bytes.fromhex("15030300020228"), then="close")},
    "handshake drops": {"handshake": DROP},
    "handshake resets": {"handshake": RESET},
    "handshake stalls": {"handshake": STALL},
    "EHLO in TLS drops": {"EHLO": ["250 mx.sink.test\nSTARTTLS", DROP]},
}


@pytest.mark.parametrize("fault", TLS_FAULTS)
async def test_opportunistic_tls_that_fails_falls_back_to_plain(fault: str, tls: ssl.SSLContext) -> None:
    async with SmtpSink(TLS_FAULTS[fault], tls=tls) as sink:
        result = await send(sink, tls="opportunistic")
    assert set(shorts(result).values()) == {"sent 250"}
    assert sink.connections == 2
    assert sink.sessions[1].tls is None


@pytest.mark.parametrize("fault", TLS_FAULTS)
async def test_required_tls_that_fails_sends_nothing_in_plain(fault: str, tls: ssl.SSLContext) -> None:
    async with SmtpSink(TLS_FAULTS[fault], tls=tls) as sink:
        refusal = await refusal_from(sink, tls="required")
    assert isinstance(refusal, TransientRefusal)
    assert refusal.reason is Reason.TLS_FAILED
    assert sink.connections == 1
    assert not any(command.startswith("MAIL") for command in sink.sessions[0].commands)


async def test_required_tls_that_is_not_offered_is_transient() -> None:
    async with SmtpSink() as sink:
        refusal = await refusal_from(sink, tls="required")
    assert refusal.reason is Reason.TLS_FAILED
    assert str(refusal.reply.status) == "4.7.4"


@pytest.mark.parametrize(
    "host", ["[192.0.2.1]", "under_score.example.test", "x" * 70 + ".test", "", "münchen.test"]
)
async def test_any_name_of_a_host_can_be_greeted_in_tls(host: str, tls: ssl.SSLContext) -> None:
    async with SmtpSink(tls=tls) as sink:
        channel = await dialer().connect(endpoint(sink, "required", host), deadline=20)
        await channel.close()
    assert sink.sessions[0].tls


@pytest.mark.parametrize("step", [DROP, RESET, STALL, b"\xff\r\n", "500 5.5.1 What"])
async def test_close_never_raises_and_never_waits_long(step: Step) -> None:
    async with SmtpSink({"QUIT": step}) as sink:
        channel = await dialer().connect(endpoint(sink), deadline=20)
        began = time.monotonic()
        await channel.close()
        await channel.close()
        assert time.monotonic() - began < 2


async def test_the_deadline_covers_connecting_and_the_fallback_too(tls: ssl.SSLContext) -> None:
    patient = dataclasses.replace(HURRIED, tls=10, greeting=10)
    async with SmtpSink({"handshake": STALL}, tls=tls) as sink, asyncio.timeout(5):
        with pytest.raises(TransientRefusal):
            await dialer(patient).connect(endpoint(sink), deadline=0.5)


@pytest.mark.parametrize("hostname", ["", "two words", "münchen.test", "a\r\nRCPT TO:<b@c.test>"])
def test_a_hostname_that_ehlo_cannot_carry_is_refused_at_once(hostname: str) -> None:
    with pytest.raises(ValueError, match="EHLO"):
        SmtpDialer(hostname)
