"""Hooks through real sockets: the example of docs/HOOKS.md, word for word, and what goes wrong in one."""

from __future__ import annotations

import asyncio
import smtplib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from empath.ingress.hooks_loading import load_hooks
from empath.ingress.hooks_runner import Hooks
from empath.ingress.listener import Listener, serve
from empath.ingress.settings import IngressSettings
from empath.pipeline.jobs import AcceptedJob, decode
from empath.ports import QueueName
from empath.testing.relay import MemoryRelay

GUIDE = Path(__file__).parents[2] / "docs/HOOKS.md"
CONTENT = b"Subject: hi\r\nX-Campaign: spring\r\n\r\nHello.\r\n"
FAILING = """
import time
from empath.ingress.hooks import hookimpl

@hookimpl
def message(message):
    if b"slow" in message.header_section:
        time.sleep(1)
    if b"wrong" in message.header_section:
        raise LookupError
"""

MARKING = """
from empath.ingress.hooks import NAMES, Verdict, hookimpl

def marking(name):
    async def mark(session):
        return Verdict(metadata={"steps": [*session.metadata.get("steps", []), name]})
    return hookimpl(mark)

for name in NAMES:
    globals()[name] = marking(name)
"""
CLOSING = """
from empath.ingress.hooks import hookimpl, refuse

@hookimpl
def connect(session):
    assert session.metadata == {"steps": ["connect"]}
    return refuse(554, "5.7.1", "Closed")
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


@dataclass
class Served:
    relay: MemoryRelay
    listener: Listener

    async def send(self, content: bytes) -> tuple[int, bytes]:
        """The reply to the content, from a client of its own."""

        def session() -> tuple[int, bytes]:
            with smtplib.SMTP("127.0.0.1", self.listener.port, timeout=10) as client:
                client.ehlo("client.example")
                client.mail("ann@one.example")
                client.rcpt("bob@good.test")
                return client.data(content)

        return await asyncio.to_thread(session)

    def jobs(self) -> list[AcceptedJob]:
        return [decode(AcceptedJob, job.body) for job in self.relay.queue.pending(QueueName.ACCEPTED)]


@asynccontextmanager
async def serving(hooks: Hooks | None) -> AsyncIterator[Served]:
    relay = MemoryRelay()
    settings = IngressSettings(port=0, hostname="mx.example", hooks=hooks)
    listener = await serve(settings, relay.acceptance, relay.clock, relay.ids, relay.metrics)
    try:
        async with asyncio.timeout(20):
            yield Served(relay, listener)
    finally:
        await listener.close(grace=0)


def example() -> str:
    _, _, rest = GUIDE.read_text().partition("```python\n")
    return rest.partition("```")[0]


async def test_the_example_of_the_guide_works(modules: Path) -> None:
    (modules / "acme_hooks.py").write_text(example())
    async with serving(load_hooks(["acme_hooks"])) as served:
        code, _ = await served.send(CONTENT)
        assert code == 250
        [job] = served.jobs()
        received, _, added = job.prepend.rpartition("+0000\r\n")
        assert received.startswith("Received: from client.example")
        assert added == "X-Score: 0.0\r\n"
        assert job.metadata == {"campaign": "spring", "score": len(CONTENT) / 100_000}
        assert job.priority == "bulk"
        await served.relay.work(QueueName.ACCEPTED)
        message = await served.relay.ledger.message(job.message_id)
        assert message is not None
        assert (message.metadata, message.prepend) == (job.metadata, job.prepend)


async def test_the_example_refuses_names_and_recipients(modules: Path) -> None:
    (modules / "acme_hooks.py").write_text(example())
    async with serving(load_hooks(["acme_hooks"])) as served:

        def session() -> list[tuple[int, bytes]]:
            with smtplib.SMTP("127.0.0.1", served.listener.port, timeout=10) as client:
                return [
                    client.ehlo("acme.example"),
                    client.ehlo("client.example"),
                    client.mail("ann@one.example"),
                    client.rcpt("Former@acme.example"),
                    client.rcpt("bob@good.test"),
                ]

        replies = await asyncio.to_thread(session)
        assert [code for code, _ in replies] == [550, 250, 250, 550, 250]
        assert replies[0][1] == b"5.7.1 You are not us"
        assert replies[3][1] == b"5.1.1 No longer with us"


async def test_every_step_of_a_session_can_be_refused_or_marked(modules: Path) -> None:
    (modules / "marking_hooks.py").write_text(MARKING)
    (modules / "closing_hooks.py").write_text(CLOSING)
    async with serving(load_hooks(["marking_hooks"])) as served:
        assert (await served.send(CONTENT))[0] == 250
        [job] = served.jobs()
        assert job.metadata == {"steps": ["connect", "helo", "mail", "rcpt", "message"]}
    async with serving(load_hooks(["marking_hooks", "closing_hooks"])) as served:
        with pytest.raises(smtplib.SMTPConnectError) as caught:
            await served.send(CONTENT)
        assert (caught.value.smtp_code, caught.value.smtp_error) == (554, b"5.7.1 Closed")


async def test_pipelined_commands_wait_for_hooks_and_are_answered_in_order(modules: Path) -> None:
    (modules / "acme_hooks.py").write_text(example())
    async with serving(load_hooks(["acme_hooks"])) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.listener.port)
        recipients = b"".join(
            b"RCPT TO:<%b>\r\n" % name for name in (b"former@acme.example", b"bob@good.test")
        )
        body = b"BDAT %d LAST\r\n%b" % (len(CONTENT), CONTENT)
        writer.write(
            b"EHLO client.example\r\nMAIL FROM:<a@one.example>\r\n" + recipients + body + b"QUIT\r\n"
        )
        said = (await reader.read()).split(b"\r\n")
        writer.close()
        codes = [line[:3] for line in said if line[3:4] == b" "]
        assert codes == [b"220", b"250", b"250", b"550", b"250", b"250", b"221"]
        assert [str(each.mailbox) for each in served.jobs()[0].recipients] == ["bob@good.test"]


async def test_a_hook_that_fails_is_451_for_its_message_and_nothing_for_the_next(modules: Path) -> None:
    (modules / "failing_hooks.py").write_text(FAILING)
    async with serving(load_hooks(["failing_hooks"], time_limit=0.05)) as served:
        for subject in (b"slow", b"wrong"):
            code, text = await served.send(b"Subject: " + subject + b"\r\n\r\n")
            assert (code, text[:5]) == (451, b"4.3.0")
        assert served.relay.spool.objects == {}
        assert served.relay.metrics.counts["hook_failed"] == 2
        assert (await served.send(CONTENT))[0] == 250
        assert len(served.jobs()) == 1
