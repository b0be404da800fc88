"""A client's certificate in place of a password: whom it lets in, and what for."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from empath.domain.errors import ControlTrouble
from empath.domain.user import User
from empath.ingress import tls
from empath.ingress.listener import serve
from empath.ingress.settings import IngressSettings, PortKind
from empath.ingress.tls import FixedCertificate
from empath.pipeline.accept import Acceptance
from empath.pipeline.jobs import AcceptedJob, decode
from empath.ports import QueueName, Users
from empath.testing.certificates import Authority, client_context, server_context
from empath.testing.clock import START, ManualClock, SequentialIds
from empath.testing.faults import Faults
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool
from empath.testing.memory_users import MemoryUsers
from empath.testing.metrics import CountedMetrics

AUTHORITY = Authority()
USERS = MemoryUsers(
    [
        User(name="ann@shop.example", domains=("shop.example",), created_at=START),
        User(name="gone@shop.example", domains=("*",), created_at=START, revoked_at=START),
    ]
)
CONTENT = b"From: ann@shop.example\r\n\r\nhi\r\n"
ELSEWHERE = (ip_network("192.0.2.0/24"),)


async def knows_nobody(user: str, password: str) -> None:
    return None


@dataclass
class Ingress:
    ports: dict[PortKind, int]
    queue: MemoryJobQueue

    @property
    def accepted(self) -> list[AcceptedJob]:
        return [decode(AcceptedJob, job.body) for job in self.queue.pending(QueueName.ACCEPTED)]

    async def talk(self, kind: PortKind, name: str | None, say: Callable[[smtplib.SMTP], None]) -> None:
        """Let `say` speak within TLS, as a client whose certificate has that mailbox, or without one."""
        shown = None if name is None else AUTHORITY.issue(emails=[name])
        await asyncio.to_thread(self._talk, self.ports[kind], kind, client_context(certificate=shown), say)

    def _talk(
        self, port: int, kind: PortKind, context: ssl.SSLContext, say: Callable[[smtplib.SMTP], None]
    ) -> None:
        client: smtplib.SMTP
        if kind.is_implicit_tls:
            client = smtplib.SMTP_SSL("127.0.0.1", port, timeout=5, context=context)
        else:
            client = smtplib.SMTP("127.0.0.1", port, timeout=5)
            client.starttls(context=context)
        with client:
            client.ehlo()
            say(client)


@asynccontextmanager
async def listening(users: Users = USERS) -> AsyncIterator[Ingress]:
    """All ports, and no network that is trusted."""
    clock = ManualClock(auto=True)
    queue = MemoryJobQueue(clock)
    context = server_context("mx.example")
    tls.trust_clients_of(context, AUTHORITY.certificate)
    settings = IngressSettings(
        port=0,
        submission_port=0,
        submissions_port=0,
        hostname="mx.example",
        networks=ELSEWHERE,
        tls=FixedCertificate(context),
        authenticator=knows_nobody,
        users=users,
    )
    acceptance = Acceptance(MemorySpool(), queue)
    listener = await serve(settings, acceptance, clock, SequentialIds(), CountedMetrics())
    try:
        async with asyncio.timeout(15):
            yield Ingress(dict(listener.ports), queue)
    finally:
        await listener.close(grace=0)


def send(client: smtplib.SMTP) -> None:
    client.sendmail("ann@shop.example", ["bob@two.example"], CONTENT)


@pytest.mark.parametrize("kind", PortKind)
async def test_the_user_of_a_certificate_sends_without_a_password(kind: PortKind) -> None:
    async with listening() as ingress:
        await ingress.talk(kind, "Ann@Shop.Example", send)
        assert [job.source.user for job in ingress.accepted] == ["ann@shop.example"]


async def test_what_the_user_may_not_send_from_is_refused_all_the_same() -> None:
    def send_from_elsewhere(client: smtplib.SMTP) -> None:
        assert client.mail("ann@other.example")[0] == 550

    async with listening() as ingress:
        await ingress.talk(PortKind.SUBMISSION, "ann@shop.example", send_from_elsewhere)


def cannot_submit(client: smtplib.SMTP) -> None:
    assert client.mail("ann@shop.example") == (530, b"5.7.0 Authentication required")


def cannot_relay(client: smtplib.SMTP) -> None:
    assert client.mail("ann@shop.example")[0] == 250
    assert client.rcpt("bob@two.example") == (550, b"5.7.1 Relaying denied")


@pytest.mark.parametrize("name", [None, "nobody@shop.example", "gone@shop.example"])
async def test_no_certificate_no_user_and_a_revoked_user_are_all_one(name: str | None) -> None:
    async with listening() as ingress:
        for kind in (PortKind.SUBMISSION, PortKind.SUBMISSIONS):
            await ingress.talk(kind, name, cannot_submit)
        await ingress.talk(PortKind.RELAY, name, cannot_relay)


async def test_while_users_cannot_be_read_a_certificate_is_no_password() -> None:
    faults = Faults()
    faults.fail("users.user", times=None)
    async with listening(faults.wrap("users", USERS, ControlTrouble)) as ingress:
        await ingress.talk(PortKind.SUBMISSIONS, "ann@shop.example", cannot_submit)


@pytest.mark.parametrize("kind", PortKind)
async def test_another_authoritys_certificate_is_not_spoken_with(kind: PortKind) -> None:
    shown = Authority().issue(emails=["ann@shop.example"])
    async with listening() as ingress:
        with pytest.raises((OSError, smtplib.SMTPException)):
            await asyncio.to_thread(
                ingress._talk, ingress.ports[kind], kind, client_context(certificate=shown), send
            )
        assert ingress.accepted == []


@pytest.mark.parametrize("kind", PortKind)
async def test_a_fault_of_ours_after_the_handshake_ends_that_connection_and_no_other(kind: PortKind) -> None:
    faults = Faults()
    faults.fail("users.user", error=ZeroDivisionError())
    async with listening(faults.wrap("users", USERS, ControlTrouble)) as ingress:
        with pytest.raises((OSError, smtplib.SMTPException)):
            await ingress.talk(kind, "ann@shop.example", send)
        await ingress.talk(kind, "ann@shop.example", send)
        assert len(ingress.accepted) == 1
