"""Clients that want to be somebody else. The rule: who a client is comes from its connection, from a
balancer that is trusted by its address, from a password within TLS or from a verified certificate; never
from words."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

import pytest

from empath.domain.user import User
from empath.ingress.proxy import SIGNATURE
from empath.ingress.settings import LOOPBACK, Timeouts
from empath.ingress.tls import FixedCertificate
from empath.testing.certificates import server_context
from empath.testing.clock import START

TLS = FixedCertificate(server_context("mx.example"))
CLIENT = ssl.create_default_context()
CLIENT.check_hostname, CLIENT.verify_mode = False, ssl.CERT_NONE
BOB = User(name="bob", domains=("one.example",), created_at=START)
SPAM = b"MAIL FROM:<a@one.example>\r\nRCPT TO:<victim@two.example>\r\nBDAT 6 LAST\r\nspam\r\n"
V1 = b"PROXY TCP4 127.0.0.1 10.0.0.1 49152 25\r\n"
V2 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([127, 0, 0, 1, 10, 0, 0, 1]) + b"\xc0\x00\x00\x19"


async def knows_bob(user: str, password: str) -> User | None:
    return BOB if (user, password) == ("bob", "secret") else None


def plain(user: str, password: str) -> bytes:
    return b"AUTH PLAIN " + b64encode(f"\0{user}\0{password}".encode()) + b"\r\n"


class TlsClient:
    """A client after EHLO, STARTTLS and EHLO that hears one reply at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> TlsClient:
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        await client.hear()
        await client.say(b"EHLO x\r\n")
        await client.say(b"STARTTLS\r\n")
        await client._writer.start_tls(CLIENT)
        await client.say(b"EHLO x\r\n")
        return client

    async def say(self, octets: bytes) -> str:
        self._writer.write(octets)
        return await self.hear()

    async def hear(self) -> str:
        """The last line of the next reply, empty at the end."""
        while True:
            line = (await self._reader.readline()).decode().rstrip("\r\n")
            if line[3:4] != "-":
                return line

    def leave(self) -> None:
        self._writer.transport.abort()


# STARTTLS


async def test_what_was_injected_before_the_handshake_is_never_read_after_it(start: Any) -> None:
    """CVE-2011-0411: somebody on the path adds commands behind STARTTLS, in the clear."""
    target = await start(tls=TLS)
    reader, writer = await asyncio.open_connection("127.0.0.1", target.listener.port)
    writer.write(b"EHLO x\r\nSTARTTLS\r\nEHLO evil.example\r\n" + SPAM)
    while b"Ready to start TLS" not in await reader.readline():
        pass
    await writer.start_tls(CLIENT)
    writer.write(b"MAIL FROM:<a@one.example>\r\n")
    assert await reader.readline() == b"503 5.5.1 Bad sequence of commands: send EHLO or HELO first\r\n"
    writer.transport.abort()
    assert target.messages == []


async def test_no_password_is_asked_for_in_the_clear(start: Any) -> None:
    target = await start(tls=TLS, authenticator=knows_bob, networks=())
    replies = await target.attack(b"EHLO x\r\n" + plain("bob", "secret") + SPAM + b"QUIT\r\n")
    assert not any("AUTH" in line for line in replies if line.startswith("250"))
    assert "538 5.7.11 Encryption required for this authentication mechanism" in replies
    assert "550 5.7.1 Relaying denied" in replies
    assert target.messages == []


# AUTH


async def test_guessing_becomes_slow_and_then_unwelcome(start: Any) -> None:
    """RFC 4954 §4: 535, later and later, and 421 for the fifth; then for the whole network."""
    target = await start(tls=TLS, authenticator=knows_bob, networks=())
    clock = target.clock
    answers: list[str] = []
    for _ in range(5):
        client = await TlsClient.connect(target.listener.port)
        waited = []
        while True:
            before = clock.now()
            answer = await client.say(plain("bob", f"guess {len(answers)}"))
            answers.append(answer)
            waited.append((clock.now() - before).total_seconds())
            if answer.startswith("421"):
                break
        assert waited == sorted(waited)
        client.leave()
    assert answers[:5] == ["535 5.7.8 Authentication credentials invalid"] * 4 + [
        "421 4.7.0 Too many authentication failures, try again later"
    ]
    client = await TlsClient.connect(target.listener.port)
    assert (await client.say(plain("bob", "secret"))).startswith("421 "), (
        "not even the right one, for a while"
    )
    client.leave()
    assert len(answers) <= 21


async def test_a_user_sends_as_no_other_and_the_null_sender_is_everybodys(start: Any) -> None:
    target = await start(tls=TLS, authenticator=knows_bob, networks=())
    client = await TlsClient.connect(target.listener.port)
    assert (await client.say(plain("bob", "secret"))).startswith("235 ")
    for forged in (b"a@two.example", b"a@sub.one.example", b"a@one.example.two.example", b"<a@one.example"):
        assert (await client.say(b"MAIL FROM:<" + forged + b">\r\n"))[:3] in {"550", "501"}, forged
    assert (await client.say(b"MAIL FROM:<>\r\n")).startswith("250 ")
    client.leave()


# PROXY


@pytest.mark.parametrize("header", [V1, V2])
async def test_a_stranger_that_plays_a_balancer_is_a_stranger(start: Any, header: bytes) -> None:
    """The header says "127.0.0.1", which may relay; who sends it is not in `proxy_networks`."""
    target = await start(networks=LOOPBACK, proxy_networks=(ip_network("192.0.2.0/24"),))
    stranger = await start(networks=(), proxy_networks=(ip_network("192.0.2.0/24"),))
    replies = await stranger.attack(header + b"\r\nEHLO x\r\n" + SPAM + b"QUIT\r\n")
    assert any(line.startswith("500 5.5.2") for line in replies)
    assert "550 5.7.1 Relaying denied" in replies
    replies = await target.attack(b"EHLO x\r\n" + header + b"\r\n" + SPAM + b"QUIT\r\n")
    assert any(line.startswith("500 5.5.2") for line in replies), "nor is it one in the middle of a session"
    assert stranger.messages == []
    assert [job.source.client for job in target.jobs()] == ["127.0.0.1"]


async def test_a_second_header_is_a_command_that_nobody_knows(start: Any) -> None:
    """A client behind the balancer sends one of its own."""
    target = await start(networks=(ip_network("127.0.0.1/32"),), proxy_networks=LOOPBACK)
    outer = V2.replace(bytes([127, 0, 0, 1]), bytes([198, 51, 100, 1]))
    replies = await target.attack(outer + V2 + b"\r\nEHLO x\r\n" + SPAM + b"QUIT\r\n")
    assert any(line.startswith("500 5.5.2") for line in replies)
    assert "550 5.7.1 Relaying denied" in replies
    assert target.messages == []


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO x\r\n" + SPAM,
        b"PROXY " + b"x" * 5000,
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(65_535),
        SIGNATURE[:11],
    ],
    ids=["none", "endless", "65535 octets", "cut off"],
)
async def test_a_balancer_without_a_proper_header_is_cut_off(start: Any, header: bytes) -> None:
    target = await start(proxy_networks=LOOPBACK, timeouts=Timeouts(opening=0.1))
    with suppress(ConnectionResetError):  # the same, said by the kernel
        assert await target.attack(header) == []
    assert target.messages == []
