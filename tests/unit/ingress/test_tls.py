"""STARTTLS over real sockets (RFC 3207): what the dialogues cannot say of it."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from empath.ingress.listener import Listener, serve
from empath.ingress.settings import IngressSettings, Timeouts
from empath.ingress.tls import FixedCertificate
from empath.pipeline.accept import Acceptance
from empath.pipeline.jobs import AcceptedJob, decode
from empath.ports import QueueName
from empath.testing.certificates import server_context
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool
from empath.testing.metrics import CountedMetrics

SETTINGS = IngressSettings(
    port=0, hostname="mx.example", tls=FixedCertificate(server_context("mx.example")), shutdown_grace=0.2
)
CLIENT = ssl.create_default_context()
CLIENT.check_hostname, CLIENT.verify_mode = False, ssl.CERT_NONE


@asynccontextmanager
async def relaying(
    settings: IngressSettings = SETTINGS,
) -> AsyncIterator[tuple[Listener, MemorySpool, MemoryJobQueue]]:
    clock, spool = ManualClock(), MemorySpool()
    queue = MemoryJobQueue(clock)
    listener = await serve(settings, Acceptance(spool, queue), clock, SequentialIds(), CountedMetrics())
    try:
        async with asyncio.timeout(15):
            yield listener, spool, queue
    finally:
        await listener.close(grace=0)


async def begin(listener: Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which the client is to begin the handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"HELO client.example\r\nSTARTTLS\r\n")
    for _ in range(3):
        line = await reader.readline()
    assert line == b"220 2.0.0 Ready to start TLS\r\n"
    return reader, writer


async def no_sessions(listener: Listener) -> None:
    while listener.sessions:
        await asyncio.sleep(0.005)


async def test_a_message_over_tls_is_stored_and_its_trace_says_how_it_came() -> None:
    content = b"Subject: hi\r\n\r\n" + (b"x" * 998 + b"\r\n") * 3000
    async with relaying() as (listener, spool, queue):

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", listener.port, local_hostname="client.example") as client:
                client.starttls(context=CLIENT)
                client.ehlo()
                assert not client.has_extn("starttls")
                client.sendmail("a@one.example", ["b@two.example"], content)
                client.sendmail("a@one.example", ["b@two.example"], b"again\r\n")

        await asyncio.to_thread(send)
        jobs = [decode(AcceptedJob, job.body) for job in queue.pending(QueueName.ACCEPTED)]
        assert [spool.objects[job.spool_key] for job in jobs] == [content, b"again\r\n"]
        assert jobs[0].source.tls is not None
        assert jobs[0].source.tls.startswith("TLSv1.3 TLS_")
        assert "by mx.example with ESMTPS id" in jobs[0].prepend


async def test_a_handshake_that_fails_ends_its_connection_and_no_other() -> None:
    async with relaying() as (listener, _, _):
        reader, writer = await begin(listener)
        writer.write(b"EHLO not-a-handshake.example\r\n" * 10)
        heard = await asyncio.gather(reader.read(), return_exceptions=True)
        assert b"250" not in (heard[0] if isinstance(heard[0], bytes) else b"")
        writer.close()
        await no_sessions(listener)
        _, other = await begin(listener)
        await other.start_tls(CLIENT)
        other.transport.abort()


async def test_commands_in_the_packet_that_ends_the_handshake_count_and_those_before_it_do_not() -> None:
    async with relaying() as (listener, _, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"HELO client.example\r\nSTARTTLS\r\nHELO evil.example\r\nMAIL FROM:<>\r\n")
        for _ in range(3):
            await reader.readline()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = CLIENT.wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        writer.write(outgoing.read())
        while client.version() is None or not client.cipher():
            incoming.write(await reader.read(65536))
            client.do_handshake()
        client.write(b"MAIL FROM:<a@one.example>\r\n")
        writer.write(outgoing.read())  # its Finished, and the command
        heard = b""
        while not heard.endswith(b"\r\n"):
            incoming.write(await reader.read(65536))
            with suppress(ssl.SSLWantReadError):
                heard += client.read()
        assert heard == b"503 5.5.1 Bad sequence of commands: send EHLO or HELO first\r\n"
        writer.transport.abort()


async def test_octets_in_the_clear_behind_starttls_end_the_connection() -> None:
    """CVE-2011-0411, in a packet of their own: they are thrown away, or reach TLS, which they are not."""
    async with relaying(replace(SETTINGS, timeouts=Timeouts(opening=0.3))) as (listener, _, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"HELO client.example\r\nSTARTTLS\r\n")
        await asyncio.sleep(0)
        writer.write(b"HELO evil.example\r\nMAIL FROM:<>\r\nRCPT TO:<b@two.example>\r\n")
        heard = await asyncio.gather(reader.read(), return_exceptions=True)
        assert b"evil" not in (heard[0] if isinstance(heard[0], bytes) else b"")
        writer.close()
        await no_sessions(listener)


async def test_a_client_that_never_begins_its_handshake_is_cut_off_without_a_word() -> None:
    timeouts = Timeouts(opening=0.1)
    async with relaying(replace(SETTINGS, timeouts=timeouts)) as (listener, _, _):
        reader, writer = await begin(listener)
        heard = await asyncio.gather(reader.read(), return_exceptions=True)
        assert heard[0] == b"" or isinstance(heard[0], ConnectionError)
        writer.close()
        await no_sessions(listener)


async def test_a_listener_that_closes_within_a_handshake_says_nothing_in_the_clear() -> None:
    async with relaying() as (listener, _, _):
        reader, writer = await begin(listener)
        await listener.close(grace=0.05)
        heard = await asyncio.gather(reader.read(), return_exceptions=True)
        assert heard[0] == b"" or isinstance(heard[0], ConnectionError)
        writer.close()


async def test_a_listener_that_closes_tells_its_encrypted_sessions() -> None:
    async with relaying() as (listener, _, _):
        reader, writer = await begin(listener)
        await writer.start_tls(CLIENT)
        writer.write(b"NOOP\r\n")
        assert await reader.readline() == b"250 2.0.0 Ok\r\n"
        closing = asyncio.create_task(listener.close(grace=1))
        assert await reader.read() == b"421 4.3.2 System is shutting down, closing the connection\r\n"
        writer.close()
        await closing


async def test_a_session_that_is_ended_for_its_errors_is_told_so_over_tls() -> None:
    async with relaying(replace(SETTINGS, max_errors=2)) as (listener, _, _):
        reader, writer = await begin(listener)
        await writer.start_tls(CLIENT)
        writer.write(b"FOO\r\nBAR\r\n" + b"NOOP\r\n" * 1000)
        assert (await reader.read()).endswith(b"421 4.7.0 Too many errors, closing the connection\r\n")
        writer.close()
        await no_sessions(listener)
