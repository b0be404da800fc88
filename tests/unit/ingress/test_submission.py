"""What a submission port adds to a message and refuses of one (RFC 6409), and a relay port does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from empath.domain.address import Mailbox
from empath.domain.envelope import Envelope, Recipient, Source
from empath.domain.user import User
from empath.ingress.header_section import HeaderReader, HeaderSection
from empath.ingress.hooks import Message, Session, Verdict, refuse
from empath.ingress.hooks_runner import Hook, Hooks, SessionHooks
from empath.ingress.reception import Reception
from empath.ingress.services import Services
from empath.ingress.settings import IngressSettings
from empath.ingress.submission import NO_FROM, missing_fields, refusal_of
from empath.pipeline.accept import Acceptance
from empath.pipeline.jobs import AcceptedJob, decode
from empath.ports import QueueName
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool
from empath.testing.metrics import CountedMetrics

AT = datetime(2026, 3, 1, 9, 5, 7, tzinfo=UTC)
MESSAGE_ID = "01JNQ4X3M0000000000000000A"
DATE = "Date: Sun, 1 Mar 2026 09:05:07 +0000\r\n"
ID = f"Message-ID: <{MESSAGE_ID}@mx.example>\r\n"
FROM = b"From: ann@one.example\r\n"
COMPLETE = FROM + b"Date: yesterday\r\nMessage-Id: <1@one.example>\r\n"
RECEIVED = "Received: here\r\n"


def section_of(content: bytes) -> HeaderSection:
    reader = HeaderReader()
    reader.feed(content)
    return reader.end()


@pytest.mark.parametrize(
    ("header", "reply"),
    [
        (COMPLETE, None),
        (FROM, None),
        (b"FROM : ann@one.example\r\n", None),
        (b"", NO_FROM),
        (b"Subject: From: nobody\r\n", NO_FROM),
        (b"Resent-From: ann@one.example\r\nSender: ann@one.example\r\n", NO_FROM),
        (FROM * 2, "From"),
        (FROM + b"from: eve@one.example\r\n", "From"),
        (COMPLETE + b"Date: today\r\n", "Date"),
        (COMPLETE + b"message-id: <2@one.example>\r\n", "Message-ID"),
    ],
)
def test_a_message_has_one_author_field_and_at_most_one_date_and_id(header: bytes, reply: Any) -> None:
    refusal = refusal_of(section_of(header + b"\r\nFrom: the body\r\n"))
    if isinstance(reply, str):
        assert str(refusal) == f"554 5.6.0 More than one {reply} field (RFC 5322)"
    else:
        assert refusal == reply


@pytest.mark.parametrize(
    ("header", "present", "added"),
    [
        (COMPLETE, (), ""),
        (FROM, (), DATE + ID),
        (FROM + b"DATE: x\r\n", (), ID),
        (FROM + b"message-id: x\r\n", (), DATE),
        (FROM, (b"message-id", b"x-other"), DATE),
        (FROM, (b"date", b"message-id"), ""),
    ],
)
def test_date_and_message_id_are_added_where_they_are_missing(
    header: bytes, present: Sequence[bytes], added: str
) -> None:
    section = section_of(header + b"\r\n")
    fields = missing_fields(section, present, message_id=MESSAGE_ID, hostname="mx.example", at=AT)
    assert fields == added


class Ingress:
    def __init__(self, *hooks: Any) -> None:
        clock = ManualClock()
        self.spool, self.queue, self.metrics = MemorySpool(), MemoryJobQueue(clock), CountedMetrics()
        self.services = Services.of(
            IngressSettings(hostname="mx.example"),
            Acceptance(self.spool, self.queue),
            clock,
            SequentialIds(),
            self.metrics,
        )
        kinds = [Hook(hook.__name__, hook, ("session", "message"), False) for hook in hooks]
        self.hooks = SessionHooks(Hooks({"message": kinds}, time_limit=0.1), self.metrics)

    async def receive(self, *content: bytes, **changes: Any) -> str:
        done: asyncio.Future[Reception] = asyncio.get_running_loop().create_future()
        reception = Reception(
            self.services,
            message_id=MESSAGE_ID,
            received_at=AT,
            envelope=Envelope(reverse_path=None, recipients=(Recipient(mailbox=Mailbox("b", "b.test")),)),
            source=Source(client="192.0.2.1", user="ann"),
            prepend=RECEIVED,
            on_taken=lambda: None,
            on_done=done.set_result,
            **changes,
        )
        for octets in content:
            reception.feed(octets)
        reception.end()
        await asyncio.wait_for(done, 5)
        return str(reception.reply)

    @property
    def job(self) -> AcceptedJob:
        [job] = self.queue.pending(QueueName.ACCEPTED)
        return decode(AcceptedJob, job.body)

    @property
    def is_empty(self) -> bool:
        return not self.queue.pending(QueueName.ACCEPTED) and not self.spool.objects


async def test_what_is_added_is_in_front_and_the_content_is_as_it_was() -> None:
    ingress = Ingress()
    reply = await ingress.receive(FROM[:7], FROM[7:] + b"\r", b"\nbody\r\n", is_submission=True)
    assert reply.startswith("250")
    assert ingress.job.prepend == RECEIVED + DATE + ID
    assert list(ingress.spool.objects.values()) == [FROM + b"\r\nbody\r\n"]


async def test_a_relay_port_adds_nothing_but_received_and_takes_what_comes() -> None:
    ingress = Ingress()
    assert (await ingress.receive(FROM * 2 + b"\r\n")).startswith("250")
    assert ingress.job.prepend == RECEIVED
    assert (ingress.job.tenant, ingress.job.priority) == (None, "normal")


@pytest.mark.parametrize("content", [[b"Subject: x\r\n\r\nbody"], [b"Subject: x\r\n"], [b""], []])
async def test_a_submission_without_an_author_is_not_stored(content: list[bytes]) -> None:
    ingress = Ingress()
    assert await ingress.receive(*content, is_submission=True) == str(NO_FROM)
    assert ingress.is_empty


@pytest.mark.parametrize("is_submission", [True, False])
async def test_a_header_section_without_end_is_refused_on_every_port(is_submission: bool) -> None:
    ingress = Ingress()
    chunks = [FROM, *[b"X-Bomb: " + b"x" * 8000 + b"\r\n"] * 40]
    reply = await ingress.receive(*chunks, is_submission=is_submission)
    assert reply == "552 5.3.4 Header section is longer than 262144 octets"
    assert ingress.is_empty


async def test_a_users_mail_is_of_its_tenant_and_priority() -> None:
    ingress = Ingress()
    user = User(name="ann", tenant="shop", priority="bulk", created_at=AT)
    await ingress.receive(COMPLETE, user=user)
    assert (ingress.job.tenant, ingress.job.priority) == ("shop", "bulk")


# Message hooks


async def test_a_message_hook_sees_the_message_and_adds_to_it() -> None:
    seen: list[tuple[Session, Message]] = []

    def looking(session: Session, message: Message) -> Verdict:
        seen.append((session, message))
        headers = [("X-Scanned", "clean"), ("Message-ID", "<hook@one.example>")]
        return Verdict(headers=headers, metadata={"score": 1.5}, priority="high", tenant="lab")

    ingress = Ingress(looking)
    user = User(name="ann", tenant="shop", created_at=AT)
    content = [FROM + b"\r", b"\nbody", b" goes on\r\n"]
    await ingress.receive(*content, is_submission=True, user=user, hooks=ingress.hooks)
    [(session, message)] = seen
    assert (session.client, session.user) == ("192.0.2.1", "ann")
    assert (message.header_section, message.size) == (FROM, len(b"".join(content)))
    assert (message.message_id, message.received_at) == (MESSAGE_ID, AT)
    job = ingress.job
    assert job.prepend == RECEIVED + "X-Scanned: clean\r\nMessage-ID: <hook@one.example>\r\n" + DATE
    assert (job.metadata, job.priority, job.tenant) == ({"score": 1.5}, "high", "lab")


async def test_metadata_of_the_session_travels_with_the_message_even_without_a_message_hook() -> None:
    ingress = Ingress()
    connect = Hook("connect", lambda: Verdict(metadata={"edge": "a"}), (), False)
    hooks = SessionHooks(Hooks({"connect": [connect]}), ingress.metrics)
    await hooks.connect(Source())
    await ingress.receive(COMPLETE, hooks=hooks)
    assert ingress.job.metadata == {"edge": "a"}


def refusing(session: Session, message: Message) -> Verdict:
    return refuse(550, "5.7.1", "Not this one")


def raising(session: Session, message: Message) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(("hook", "reply"), [(refusing, "550 5.7.1 Not this one"), (raising, "451 4.3.0")])
async def test_what_a_message_hook_refuses_is_not_stored(hook: Any, reply: str) -> None:
    ingress = Ingress(hook)
    assert (await ingress.receive(COMPLETE, b"\r\nbody", hooks=ingress.hooks)).startswith(reply)
    assert ingress.is_empty
