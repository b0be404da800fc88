"""Where a session calls its hooks, over real sockets: each may refuse, and what it sets stays."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from types import ModuleType
from typing import Any

import pytest

from empath.ingress.hooks import Session, Verdict, hookimpl, refuse
from empath.ingress.hooks_loading import load_hooks
from empath.ingress.listener import Listener, serve
from empath.ingress.settings import IngressSettings
from empath.pipeline.accept import Acceptance
from empath.pipeline.jobs import AcceptedJob, decode
from empath.ports import QueueName
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool
from empath.testing.metrics import CountedMetrics

HELLO = b"EHLO client.example\r\n"
SEND = b"MAIL FROM:<a@one.example>\r\nRCPT TO:<b@two.example>\r\nBDAT 4 LAST\r\nhi\r\n"
_numbers = count()

Relay = tuple[Listener, MemoryJobQueue, CountedMetrics]


@pytest.fixture
def make_module() -> Iterator[Callable[..., str]]:
    """A module with these functions as hooks; its name."""
    made: list[str] = []

    def make(**functions: Callable[..., Any]) -> str:
        module = ModuleType(f"made_hooks_{next(_numbers)}")
        for name, function in functions.items():
            function.__name__ = name
            setattr(module, name, hookimpl(function))
        sys.modules[module.__name__] = module
        made.append(module.__name__)
        return module.__name__

    yield make
    for name in made:
        del sys.modules[name]


@asynccontextmanager
async def relaying(module: str, time_limit: float = 5.0) -> AsyncIterator[Relay]:
    clock, metrics = ManualClock(auto=True), CountedMetrics()
    queue = MemoryJobQueue(clock)
    settings = IngressSettings(
        port=0, hostname="mx.example", shutdown_grace=0.2, hooks=load_hooks([module], time_limit=time_limit)
    )
    listener = await serve(settings, Acceptance(MemorySpool(), queue), clock, SequentialIds(), metrics)
    try:
        async with asyncio.timeout(15):
            yield listener, queue, metrics
    finally:
        await listener.close(grace=0)


async def talk(relay: Relay, octets: bytes) -> list[str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay[0].port)
    writer.write(octets)
    try:
        return (await reader.read()).decode().splitlines()
    finally:
        writer.close()


def jobs(relay: Relay) -> list[AcceptedJob]:
    return [decode(AcceptedJob, job.body) for job in relay[1].pending(QueueName.ACCEPTED)]


async def test_a_client_that_is_not_wanted_hears_so_instead_of_a_greeting(
    make_module: Callable[..., str],
) -> None:
    async def connect(session: Session) -> Verdict:
        assert session.client == "127.0.0.1"
        await asyncio.sleep(0.01)
        return refuse(554, "5.7.1", "No service for you")

    async with relaying(make_module(connect=connect)) as relay:
        assert await talk(relay, HELLO + SEND) == ["554 5.7.1 No service for you"]
        assert jobs(relay) == []


async def test_input_that_comes_before_the_greeting_waits_for_it(make_module: Callable[..., str]) -> None:
    async def connect(session: Session) -> None:
        await asyncio.sleep(0.05)

    async with relaying(make_module(connect=connect)) as relay:
        replies = await talk(relay, HELLO + SEND + b"QUIT\r\n")
        assert replies[0] == "220 mx.example ESMTP Empath"
        assert replies[-1] == "221 2.0.0 Bye"
        assert len(jobs(relay)) == 1


@pytest.mark.parametrize("kind", ["helo", "mail", "rcpt"])
@pytest.mark.parametrize("is_coroutine", [True, False])
async def test_a_refusal_is_the_reply_and_the_session_goes_on(
    make_module: Callable[..., str], kind: str, is_coroutine: bool
) -> None:
    seen: list[str] = []

    def decide(session: Session) -> Verdict | None:
        seen.append(kind)
        return refuse(550, "5.7.1", f"No {kind}") if len(seen) == 1 else None

    async def decide_later(session: Session) -> Verdict | None:
        return decide(session)

    async with relaying(make_module(**{kind: decide_later if is_coroutine else decide})) as relay:
        replies = await talk(relay, HELLO + SEND + b"RSET\r\n" + HELLO + SEND + b"QUIT\r\n")
        assert f"550 5.7.1 No {kind}" in replies
        assert replies[-1] == "221 2.0.0 Bye"
        assert len(jobs(relay)) == 1
        assert len(seen) == 2


async def test_what_hooks_set_stays_as_long_as_what_they_were_asked_about(
    make_module: Callable[..., str],
) -> None:
    numbers = count(1)

    def connect(session: Session) -> Verdict:
        return Verdict(metadata={"connect": 1})

    def mail(session: Session) -> Verdict:
        assert "rcpt" not in session.metadata
        return Verdict(metadata={"mail": next(numbers)})

    def rcpt(session: Session, recipient: Any, reverse_path: Any) -> Verdict:
        assert str(reverse_path) == "a@one.example"
        return Verdict(metadata={"rcpt": str(recipient.mailbox)})

    def message(session: Session, message: Any) -> Verdict:
        return Verdict(metadata={"size": message.size})

    module = make_module(connect=connect, mail=mail, rcpt=rcpt, message=message)
    async with relaying(module) as relay:
        await talk(relay, HELLO + SEND + SEND + b"QUIT\r\n")
        assert [job.metadata for job in jobs(relay)] == [
            {"connect": 1, "mail": number, "rcpt": "b@two.example", "size": 4} for number in (1, 2)
        ]


@pytest.mark.parametrize("kind", ["connect", "helo", "mail", "rcpt", "message"])
@pytest.mark.parametrize("fault", ["raises", "is slow"])
async def test_a_hook_that_fails_is_451_and_harms_no_other_session(
    make_module: Callable[..., str], kind: str, fault: str
) -> None:
    ill = True

    async def decide(session: Session) -> None:
        if ill and fault == "raises":
            raise ZeroDivisionError
        if ill:
            await asyncio.sleep(60)

    async with relaying(make_module(**{kind: decide}), time_limit=0.05) as relay:
        replies = await talk(relay, HELLO + SEND + b"QUIT\r\n")
        assert any(line.startswith("451 4.3.0 ") for line in replies)
        assert jobs(relay) == []
        assert relay[2].counts["hook_failed"] >= 1
        ill = False
        assert (await talk(relay, HELLO + SEND + b"QUIT\r\n"))[-1] == "221 2.0.0 Bye"
        assert len(jobs(relay)) == 1


async def test_a_client_that_has_said_all_still_hears_what_a_hook_decides(
    make_module: Callable[..., str],
) -> None:
    """And no longer than a hook may take does its half-closed connection stay."""

    async def rcpt(session: Session) -> None:
        await asyncio.sleep(60)

    async with relaying(make_module(rcpt=rcpt), time_limit=0.1) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay[0].port)
        writer.write(HELLO + SEND)
        writer.write_eof()
        assert b"\r\n451 4.3.0 " in await reader.read()
        writer.close()
        while relay[0].sessions:
            await asyncio.sleep(0.005)
