"""The ports of a listener over real sockets: relay, submission, implicit TLS, and a balancer in front."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from empath.domain.user import User
from empath.ingress.listener import Listener, ListenError, serve
from empath.ingress.proxy import SIGNATURE
from empath.ingress.settings import LOOPBACK, IngressSettings, PortKind, Timeouts
from empath.ingress.tls import FixedCertificate
from empath.pipeline.accept import Acceptance
from empath.pipeline.jobs import AcceptedJob, decode
from empath.ports import QueueName
from empath.testing.certificates import server_context
from empath.testing.clock import START, ManualClock, SequentialIds
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool
from empath.testing.metrics import CountedMetrics

TLS = FixedCertificate(server_context("mx.example"))
CLIENT = ssl.create_default_context()
CLIENT.check_hostname, CLIENT.verify_mode = False, ssl.CERT_NONE
SETTINGS = IngressSettings(port=0, hostname="mx.example", shutdown_grace=0.2)
BALANCED = replace(SETTINGS, networks=(ip_network("203.0.113.0/24"),), proxy_networks=LOOPBACK)
V2 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([203, 0, 113, 7, 10, 0, 0, 1]) + b"\xc0\x00\x00\x19"
STRANGER = V2.replace(bytes([203, 0, 113, 7]), bytes([198, 51, 100, 1]))
V1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 49152 25\r\n"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
MESSAGE = (
    b"EHLO client.example\r\nMAIL FROM:<a@one.example>\r\nRCPT TO:<b@two.example>\r\n"
    b"BDAT 4 LAST\r\nhi\r\nQUIT\r\n"
)


BOB = User(name="bob", domains=("one.example",), created_at=START)


async def knows_bob(user: str, password: str) -> User | None:
    return BOB if (user, password) == ("bob", "secret") else None


@asynccontextmanager
async def listening(
    settings: IngressSettings, **changes: Any
) -> AsyncIterator[tuple[Listener, MemoryJobQueue]]:
    clock = ManualClock(auto=True)
    queue = MemoryJobQueue(clock)
    listener = await serve(
        replace(settings, **changes),
        Acceptance(MemorySpool(), queue),
        clock,
        SequentialIds(),
        CountedMetrics(),
    )
    try:
        async with asyncio.timeout(15):
            yield listener, queue
    finally:
        await listener.close(grace=0)


def accepted(queue: MemoryJobQueue) -> list[AcceptedJob]:
    return [decode(AcceptedJob, job.body) for job in queue.pending(QueueName.ACCEPTED)]


async def talk(port: int, *pieces: bytes) -> str:
    """Send the pieces, each in a packet of its own, and hear all that comes until the other end closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)
        return (await reader.read()).decode()
    except ConnectionResetError:
        return ""
    finally:
        writer.close()


@pytest.mark.parametrize("header", [V1, V2])
async def test_the_client_is_whom_the_balancer_names(header: bytes) -> None:
    async with listening(BALANCED) as (listener, queue):
        said = await talk(listener.port, header + MESSAGE)
        assert said.endswith("221 2.0.0 Bye\r\n")
        [job] = accepted(queue)
        assert job.source.client == "203.0.113.7"
        assert "([203.0.113.7])" in job.prepend


async def test_a_header_that_comes_octet_by_octet_is_read_all_the_same() -> None:
    async with listening(BALANCED) as (listener, queue):
        await talk(listener.port, *[bytes([octet]) for octet in V2], MESSAGE)
        assert [job.source.client for job in accepted(queue)] == ["203.0.113.7"]


@pytest.mark.parametrize("header", [STRANGER, LOCAL, b"PROXY UNKNOWN\r\n"])
async def test_the_balancers_own_address_opens_nothing(header: bytes) -> None:
    """Behind a balancer every client would have its address; only the one that it names counts."""
    async with listening(BALANCED, networks=LOOPBACK) as (listener, queue):
        said = await talk(listener.port, header + MESSAGE)
        assert "550 5.7.1 Relaying denied" in said
        assert accepted(queue) == []


async def test_a_balancer_that_names_nobody_is_not_served() -> None:
    async with listening(BALANCED) as (listener, queue):
        assert await talk(listener.port, MESSAGE) == ""
        assert accepted(queue) == []


async def test_a_balancer_that_says_nothing_is_dropped_after_a_while() -> None:
    async with listening(BALANCED, timeouts=Timeouts(opening=0.05)) as (listener, _):
        assert await talk(listener.port) == ""
        assert await talk(listener.port, V2[:10]) == ""


async def test_tls_may_follow_the_header_in_the_same_packet() -> None:
    async with listening(BALANCED, submissions_port=0, tls=TLS, authenticator=knows_bob) as (listener, _):

        def send() -> None:
            raw = socket.create_connection(("127.0.0.1", listener.ports[PortKind.SUBMISSIONS]), timeout=5)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = CLIENT.wrap_bio(incoming, outgoing)
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            with closing(raw):
                raw.sendall(V2 + outgoing.read())
                while True:
                    incoming.write(raw.recv(65_536))
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        pass
                raw.sendall(outgoing.read())
                while True:
                    try:
                        assert tls.read() == b"220 mx.example ESMTP Empath\r\n"
                        break
                    except ssl.SSLWantReadError:
                        incoming.write(raw.recv(65_536))

        await asyncio.to_thread(send)


@pytest.mark.parametrize("kind", [PortKind.SUBMISSION, PortKind.SUBMISSIONS])
async def test_a_user_submits_after_tls_and_auth_and_only_then(kind: PortKind) -> None:
    """RFC 6409 §4.3; a trusted network is no user."""
    ports = {"submission_port": 0, "submissions_port": 0}
    async with listening(SETTINGS, tls=TLS, authenticator=knows_bob, **ports) as (listener, queue):

        def send() -> None:
            port = listener.ports[kind]
            if kind.is_implicit_tls:
                client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", port, context=CLIENT, timeout=5)
            else:
                client = smtplib.SMTP("127.0.0.1", port, timeout=5)
                client.ehlo()
                assert client.mail("a@one.example")[0] == 530
                assert client.docmd("AUTH PLAIN")[0] == 538
                client.starttls(context=CLIENT)
            with client:
                client.ehlo()
                assert not client.has_extn("starttls")
                assert client.mail("a@one.example") == (530, b"5.7.0 Authentication required")
                client.login("bob", "secret")
                assert client.mail("a@other.example") == (
                    550,
                    b"5.7.1 This user may not send from this address",
                )
                client.sendmail("a@one.example", ["b@two.example"], b"From: a@one.example\r\n\r\nhi\r\n")

        await asyncio.to_thread(send)
        [job] = accepted(queue)
        assert job.source.user == "bob"
        assert " with ESMTPSA " in job.prepend


async def test_the_relay_port_knows_no_530() -> None:
    async with listening(SETTINGS) as (listener, queue):
        await talk(listener.port, MESSAGE)
        assert len(accepted(queue)) == 1


async def test_all_ports_are_free_again_when_one_of_them_cannot_be_had() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        number = taken.getsockname()[1]
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            free = probe.getsockname()[1]
        with pytest.raises(ListenError, match=f"port {number}: the port is in use"):
            async with listening(SETTINGS, port=free, submission_port=number, tls=TLS):
                pass
        async with listening(SETTINGS, port=free):
            pass


class BrokenQuotas:
    """A fault of ours, in whatever it is that takes time to decide."""

    def take_local(self, **_: object) -> bool:
        return False

    async def refusal(self, **_: object) -> None:
        raise ZeroDivisionError


async def test_a_decision_that_fails_is_451_and_the_session_goes_on() -> None:
    async with listening(SETTINGS, quotas=BrokenQuotas()) as (listener, queue):
        said = await talk(listener.port, MESSAGE)
        assert "451 4.3.0 " in said
        assert said.endswith("221 2.0.0 Bye\r\n")
        assert accepted(queue) == []
