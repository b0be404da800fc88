"""TLS from the first octet (RFC 8314 §3.3): no handshake is lost, however early it comes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from empath.ingress.listener import serve
from empath.ingress.settings import IngressSettings, PortKind
from empath.ingress.tls import FixedCertificate
from empath.pipeline.accept import Acceptance
from empath.testing.certificates import client_context, server_context
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool
from empath.testing.metrics import CountedMetrics
from tests.unit.ingress.encrypted import serving

CERTIFICATE = FixedCertificate(server_context("mx.example"))


def hello_in_pieces(port: int, size: int, in_front: bytes = b"") -> bytes:
    """The first line of a server, for a client whose handshake comes with its connection; empty when the
    server hangs up."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(incoming, outgoing)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                return client.read()
            except ssl.SSLWantReadError:
                octets, in_front = in_front + outgoing.read(), b""
                for start in range(0, len(octets), size):
                    connection.sendall(octets[start : start + size])
                try:
                    received = connection.recv(65536)
                except ConnectionResetError:
                    received = b""
                if not received:
                    return b""
                incoming.write(received)
            except ssl.SSLError:
                return b""


@pytest.mark.parametrize("size", [65536, 100, 7])
async def test_a_handshake_that_comes_with_the_connection_is_not_lost(size: int) -> None:
    async with serving(CERTIFICATE, implicit=True) as (port, _):
        for _ in range(30):
            assert await asyncio.to_thread(hello_in_pieces, port, size) == b"-\n"


async def test_a_handshake_that_was_there_before_the_connection_was_accepted_is_not_lost() -> None:
    async with serving(CERTIFICATE, implicit=True) as (port, _):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context().wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        connection = socket.create_connection(("127.0.0.1", port))  # blocks the loop, so nobody accepts yet
        connection.sendall(outgoing.read())
        connection.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=connection)
        incoming.write(await reader.read(65536))
        client.do_handshake()
        writer.write(outgoing.read())
        heard = b""
        while not heard:  # session tickets come first
            incoming.write(await reader.read(65536))
            with suppress(ssl.SSLWantReadError):
                heard = client.read()
        assert heard == b"-\n"
        writer.close()


async def test_what_is_no_handshake_fails_and_is_never_taken_for_data() -> None:
    async with serving(CERTIFICATE, implicit=True) as (port, failures):
        for _ in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"EHLO client.example\r\n")
            heard = await asyncio.gather(reader.read(), return_exceptions=True)
            assert b"EHLO" not in (heard[0] if isinstance(heard[0], bytes) else b"")
            writer.close()
            assert await failures.get()


@asynccontextmanager
async def submissions() -> AsyncIterator[int]:
    """The ingress's port with TLS from the first octet."""

    async def knows_nobody(user: str, password: str) -> None:
        return None

    clock = ManualClock()
    settings = IngressSettings(
        port=None, submissions_port=0, hostname="mx.example", tls=CERTIFICATE, authenticator=knows_nobody
    )
    acceptance = Acceptance(MemorySpool(), MemoryJobQueue(clock))
    listener = await serve(settings, acceptance, clock, SequentialIds(), CountedMetrics())
    try:
        async with asyncio.timeout(15):
            yield listener.ports[PortKind.SUBMISSIONS]
    finally:
        await listener.close(grace=0)


@pytest.mark.parametrize("size", [65536, 7])
async def test_the_port_greets_every_client_whose_handshake_comes_with_its_connection(size: int) -> None:
    async with submissions() as port:
        for _ in range(30):
            greeting = await asyncio.to_thread(hello_in_pieces, port, size)
            assert greeting == b"220 mx.example ESMTP Empath\r\n"


async def test_commands_in_the_clear_in_front_of_a_handshake_end_the_connection() -> None:
    """Somebody in between could put them there (CVE-2011-0411); within TLS they would be the client's."""
    async with submissions() as port:
        for _ in range(10):
            heard = await asyncio.to_thread(
                hello_in_pieces, port, 65536, b"EHLO evil.example\r\nMAIL FROM:<a@one.example>\r\n"
            )
            assert heard == b""
