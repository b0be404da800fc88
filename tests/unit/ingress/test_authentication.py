"""AUTH over real sockets (RFC 4954): within TLS, against an authenticator that may fail."""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from empath.domain.user import User
from empath.ingress.listener import Listener, serve
from empath.ingress.settings import IngressSettings, Timeouts
from empath.ingress.tls import FixedCertificate
from empath.pipeline.accept import Acceptance
from empath.pipeline.jobs import AcceptedJob, decode
from empath.ports import QueueName
from empath.testing.certificates import server_context
from empath.testing.clock import START, ManualClock, SequentialIds
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool
from empath.testing.metrics import CountedMetrics

CLIENT = ssl.create_default_context()
CLIENT.check_hostname, CLIENT.verify_mode = False, ssl.CERT_NONE


BOB = User(name="bob", domains=("*",), created_at=START)


async def knows_bob(user: str, password: str) -> User | None:
    match user:
        case "slow":
            await asyncio.sleep(60)
        case "broken":
            raise ZeroDivisionError(password)
    return BOB if (user, password) == ("bob", "secret") else None


SETTINGS = IngressSettings(
    port=0,
    hostname="mx.example",
    tls=FixedCertificate(server_context("mx.example")),
    authenticator=knows_bob,
    shutdown_grace=0.2,
    timeouts=Timeouts(authenticate=0.1),
)


@asynccontextmanager
async def relaying(settings: IngressSettings = SETTINGS) -> AsyncIterator[tuple[Listener, MemoryJobQueue]]:
    clock = ManualClock(auto=True)
    queue = MemoryJobQueue(clock)
    acceptance = Acceptance(MemorySpool(), queue)
    listener = await serve(settings, acceptance, clock, SequentialIds(), CountedMetrics())
    try:
        async with asyncio.timeout(15):
            yield listener, queue
    finally:
        await listener.close(grace=0)


@pytest.mark.parametrize("mechanism", ["plain", "login"])
async def test_a_user_is_known_to_the_message_and_in_its_trace(
    mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with relaying() as (listener, queue):

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", listener.port, local_hostname="client.example") as client:
                client.ehlo()
                assert not client.has_extn("auth")
                client.starttls(context=CLIENT)
                client.ehlo()
                assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
                client.user, client.password = "bob", "secret"
                client.auth(mechanism, getattr(client, f"auth_{mechanism}"))
                client.sendmail("a@one.example", ["b@two.example"], b"hi\r\n")

        await asyncio.to_thread(send)
        [job] = [decode(AcceptedJob, job.body) for job in queue.pending(QueueName.ACCEPTED)]
        assert job.source.user == "bob"
        assert "by mx.example with ESMTPSA id" in job.prepend
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("user", "code", "text"),
    [
        ("bob", 535, b"5.7.8 Authentication credentials invalid"),
        ("slow", 454, b"4.7.0 Temporary authentication failure"),
        ("broken", 454, b"4.7.0 Temporary authentication failure"),
    ],
)
async def test_who_cannot_be_told_to_be_the_user_is_not(
    user: str, code: int, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with relaying() as (listener, queue):

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", listener.port, local_hostname="client.example") as client:
                client.starttls(context=CLIENT)
                client.ehlo()
                client.user, client.password = user, "hunter2"
                assert client.docmd("AUTH PLAIN", _plain(user, "hunter2")) == (code, text)
                assert client.noop()[0] == 250

        await asyncio.to_thread(send)
        assert queue.pending(QueueName.ACCEPTED) == []
    assert "hunter2" not in caplog.text
    assert not any("hunter2" in str(vars(record)) for record in caplog.records)


async def test_a_client_that_leaves_before_the_answer_is_forgotten() -> None:
    slow = replace(SETTINGS, timeouts=Timeouts(authenticate=60))
    async with relaying(slow) as (listener, _):

        def leave() -> None:
            client = smtplib.SMTP("127.0.0.1", listener.port, local_hostname="client.example")
            client.starttls(context=CLIENT)
            client.ehlo()
            client.putcmd("AUTH PLAIN " + _plain("slow", "x"))
            client.close()

        await asyncio.to_thread(leave)
        while listener.sessions:
            await asyncio.sleep(0.005)


async def test_without_an_authenticator_it_is_not_offered() -> None:
    async with relaying(replace(SETTINGS, authenticator=None)) as (listener, _):

        def ask() -> None:
            with smtplib.SMTP("127.0.0.1", listener.port, local_hostname="client.example") as client:
                client.starttls(context=CLIENT)
                client.ehlo()
                assert not client.has_extn("auth")
                assert client.docmd("AUTH PLAIN") == (502, b"5.5.1 Command not implemented")

        await asyncio.to_thread(ask)


async def test_reports_are_promised_to_everybody() -> None:
    async with relaying() as (listener, _):

        def ask() -> None:
            with smtplib.SMTP("127.0.0.1", listener.port, local_hostname="client.example") as client:
                client.ehlo()
                assert client.has_extn("dsn")

        await asyncio.to_thread(ask)


def _plain(user: str, password: str) -> str:
    from base64 import b64encode

    return b64encode(f"\0{user}\0{password}".encode()).decode()
