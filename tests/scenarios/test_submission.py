"""Submission through real sockets (RFC 6409): what a user's software left out is added on the way."""

from __future__ import annotations

import asyncio
import email
import re
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from empath.domain.user import User
from empath.ingress.listener import Listener, serve
from empath.ingress.settings import IngressSettings, PortKind
from empath.ingress.tls import FixedCertificate
from empath.testing.certificates import client_context, server_context
from empath.testing.clock import START
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

ANN = User(name="ann", domains=("one.example",), tenant="shop", priority="bulk", created_at=START)
SUBMITTED = b"From: ann@one.example\r\nSubject: hi\r\n\r\nHello.\r\n"


async def knows_ann(name: str, password: str) -> User | None:
    return ANN if (name, password) == ("ann", "secret") else None


SETTINGS = IngressSettings(
    port=0,
    submissions_port=0,
    hostname="mx.example",
    tls=FixedCertificate(server_context("mx.example")),
    authenticator=knows_ann,
)


@asynccontextmanager
async def serving(relay: MemoryRelay) -> AsyncIterator[Listener]:
    listener = await serve(SETTINGS, relay.acceptance, relay.clock, relay.ids, relay.metrics)
    try:
        async with asyncio.timeout(20):
            yield listener
    finally:
        await listener.close(grace=0)


def data(client: smtplib.SMTP, content: bytes) -> tuple[int, bytes]:
    client.ehlo("client.example")
    if client.has_extn("auth"):
        client.login("ann", "secret")
    client.mail("ann@one.example")
    client.rcpt("bob@good.test")
    return client.data(content)


def submit(listener: Listener, content: bytes) -> tuple[int, bytes]:
    port = listener.ports[PortKind.SUBMISSIONS]
    with smtplib.SMTP_SSL("127.0.0.1", port, timeout=10, context=client_context()) as client:
        return data(client, content)


def relay_in(listener: Listener, content: bytes) -> tuple[int, bytes]:
    with smtplib.SMTP("127.0.0.1", listener.ports[PortKind.RELAY], timeout=10) as client:
        return data(client, content)


async def test_a_submitted_message_arrives_with_date_and_message_id() -> None:
    dialer = ScriptedDialer()
    relay = MemoryRelay(dialer=dialer)
    async with serving(relay) as listener:
        code, text = await asyncio.to_thread(submit, listener, SUBMITTED)
        assert code == 250
    message_id = text.split()[-1].decode()
    await relay.run()
    [sent] = dialer.messages
    assert sent.content.endswith(SUBMITTED)
    header = email.message_from_bytes(sent.content)
    assert header.keys() == ["Received", "Date", "Message-ID", "From", "Subject"]
    assert header["Message-ID"] == f"<{message_id}@mx.example>"
    assert re.search(r"with ESMTPSA id ", header["Received"])
    assert header["Received"].endswith(header["Date"])
    record = await relay.ledger.message(message_id)
    assert record is not None
    assert (record.source.user, record.tenant, record.priority) == ("ann", "shop", "bulk")


async def test_a_submitted_message_without_an_author_is_refused_and_a_relayed_one_is_not() -> None:
    relay = MemoryRelay()
    async with serving(relay) as listener:
        refused = await asyncio.to_thread(submit, listener, b"Subject: hi\r\n\r\nHello.\r\n")
        assert refused == (554, b"5.6.0 The message has no From field (RFC 5322)")
        assert relay.spool.objects == {}
        code, _ = await asyncio.to_thread(relay_in, listener, b"Subject: hi\r\n\r\nHello.\r\n")
        assert code == 250
