"""The listener over real sockets: what the dialogues cannot say, because it is about time, loss and load."""

from __future__ import annotations

import asyncio
import logging
import smtplib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from empath.domain.errors import QueueTrouble, SpoolTrouble
from empath.ingress.listener import Listener, ListenError, serve
from empath.ingress.settings import IngressSettings, Timeouts
from empath.pipeline.accept import Acceptance
from empath.pipeline.jobs import AcceptedJob, decode
from empath.ports import QueueName
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.faults import AFTER, Faults
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool
from empath.testing.metrics import CountedMetrics

SETTINGS = IngressSettings(port=0, hostname="mx.example", shutdown_grace=0.2)
ENVELOPE = b"MAIL FROM:<a@one.example>\r\nRCPT TO:<b@two.example>\r\n"
GREETED = [b"220 mx.example ESMTP Empath", b"250 mx.example"]
IN_DATA = [b"250 2.1.0 Ok", b"250 2.1.5 Ok", b"354 End data with <CR><LF>.<CR><LF>"]


class SlowSpool(MemorySpool):
    """A spool that takes nothing before `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def put(self, key: str, content: Any) -> int:
        self.asked.set()
        await self.go.wait()
        return await super().put(key, content)


@dataclass
class Relay:
    listener: Listener
    spool: MemorySpool
    queue: MemoryJobQueue
    metrics: CountedMetrics
    faults: Faults

    def jobs(self) -> list[AcceptedJob]:
        return [decode(AcceptedJob, job.body) for job in self.queue.pending(QueueName.ACCEPTED)]


@asynccontextmanager
async def relaying(
    settings: IngressSettings = SETTINGS, spool: MemorySpool | None = None
) -> AsyncIterator[Relay]:
    clock, faults, metrics = ManualClock(), Faults(), CountedMetrics()
    spool, queue = spool or MemorySpool(), MemoryJobQueue(clock)
    acceptance = Acceptance(
        faults.wrap("spool", spool, SpoolTrouble), faults.wrap("queue", queue, QueueTrouble)
    )
    listener = await serve(settings, acceptance, clock, SequentialIds(), metrics)
    try:
        async with asyncio.timeout(15):
            yield Relay(listener, spool, queue, metrics, faults)
    finally:
        await listener.close(grace=0)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def hear(self, lines: int = 1) -> list[bytes]:
        return [(await self.reader.readline()).rstrip(b"\r\n") for _ in range(lines)]

    async def say(self, octets: bytes, lines: int = 1) -> list[bytes]:
        self.writer.write(octets)
        await self.writer.drain()
        return await self.hear(lines)

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


@asynccontextmanager
async def client_of(relay: Relay) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", relay.listener.port))
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def client_in_data(relay: Relay) -> AsyncIterator[Client]:
    async with client_of(relay) as client:
        assert await client.say(b"HELO client.example\r\n", 2) == GREETED
        assert await client.say(ENVELOPE + b"DATA\r\n", 3) == IN_DATA
        yield client


@asynccontextmanager
async def failing(relay: Relay, call: str, error: Exception | None = None) -> AsyncIterator[None]:
    """One call fails; armed before DATA, for that is when storing begins."""
    relay.faults.fail(call, error=error)
    yield


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


# Accepting


async def test_an_accepted_message_is_stored_as_it_was_and_told_with_its_trace_apart() -> None:
    content = b"Subject: hi\r\n\r\n.dots\r\n\x00\xff" + b"x" * 200_000 + b"\r\n"
    async with relaying() as relay:

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", relay.listener.port, local_hostname="client.example") as client:
                client.sendmail("a@one.example", ["b@two.example"], content, mail_options=["BODY=8BITMIME"])

        await asyncio.to_thread(send)
        [job] = relay.jobs()
        assert relay.spool.objects == {job.spool_key: content}
        assert (job.size, job.eight_bit, str(job.reverse_path)) == (len(content), True, "a@one.example")
        assert (job.source.client, job.source.helo) == ("127.0.0.1", "client.example")
        assert job.prepend == (
            "Received: from client.example ([127.0.0.1])\r\n"
            f"\tby mx.example with ESMTP id {job.message_id}\r\n"
            "\tfor <b@two.example>;\r\n"
            "\tSun, 1 Mar 2026 12:00:00 +0000\r\n"
        )
        assert relay.metrics.counts == {"received": 1}


async def test_the_reply_names_the_message_and_recipients_are_counted() -> None:
    async with relaying() as relay, client_of(relay) as client:
        await client.say(b"HELO client.example\r\n", 2)
        await client.say(ENVELOPE + b"RCPT TO:<c@two.example>\r\nDATA\r\n", 4)
        [reply] = await client.say(b"hi\r\n.\r\n")
        [job] = relay.jobs()
        assert reply == f"250 2.0.0 Ok: queued as {job.message_id}".encode()
        assert "for" not in job.prepend
        assert relay.metrics.counts == {"received": 2}


async def test_many_sessions_at_once_do_not_mix() -> None:
    async def send(relay: Relay, number: int) -> None:
        async with client_in_data(relay) as client:
            for _ in range(20):
                await client.say(f"{number}".encode() * 1000 + b"\r\n", 0)
                await asyncio.sleep(0)
            [reply] = await client.say(b".\r\n")
            assert reply.startswith(b"250 ")

    async with relaying() as relay:
        await asyncio.gather(*(send(relay, number) for number in range(10, 40)))
        expected = {(f"{number}".encode() * 1000 + b"\r\n") * 20 for number in range(10, 40)}
        assert set(relay.spool.objects.values()) == expected


async def test_small_replies_are_not_held_back_by_nagle() -> None:
    async with relaying() as relay, client_of(relay) as client:
        await client.hear()
        [connection] = relay.listener._connections
        sock = connection._flow.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Honesty


@pytest.mark.parametrize("call", ["spool.put", "queue.send"])
async def test_trouble_is_451_and_the_next_message_passes(call: str) -> None:
    async with relaying() as relay, failing(relay, call), client_in_data(relay) as client:
        trouble = b"451 4.3.0 Temporary system problem, please try again later"
        assert await client.say(b"first\r\n.\r\n") == [trouble]
        assert await client.say(ENVELOPE + b"DATA\r\n", 3) == IN_DATA
        [reply] = await client.say(b"second\r\n.\r\n")
        assert reply.startswith(b"250 ")
        [job] = relay.jobs()
        assert relay.spool.objects[job.spool_key] == b"second\r\n"


async def test_a_queue_that_may_have_stored_the_job_is_451() -> None:
    async with relaying() as relay, client_in_data(relay) as client:
        relay.faults.fail("queue.send", when=AFTER)
        [reply] = await client.say(b"hi\r\n.\r\n")
        assert reply.startswith(b"451 4.3.0")


async def test_an_unexpected_error_is_451_with_a_traceback_and_without_content(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fault = ZeroDivisionError("a fault of ours")
    async with relaying() as relay, failing(relay, "spool.put", fault), client_in_data(relay) as client:
        [reply] = await client.say(b"secret words\r\n.\r\n")
        assert reply == b"451 4.3.0 Temporary system problem, please try again later"
        assert await client.say(b"NOOP\r\n") == [b"250 2.0.0 Ok"]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.__dict__["client"] == "127.0.0.1"
    assert "secret" not in caplog.text


async def test_trouble_in_the_middle_of_a_large_message_is_told_at_its_end() -> None:
    async with relaying() as relay, failing(relay, "spool.put"), client_in_data(relay) as client:
        for _ in range(40):
            await client.say(b"x" * 65_534 + b"\r\n", 0)
        [reply] = await client.say(b".\r\n")
        assert reply.startswith(b"451 4.3.0")


async def test_log_lines_name_the_message_and_the_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "empath.ingress")
    async with relaying() as relay, client_in_data(relay) as client:
        await client.say(b"secret words\r\n.\r\n")
        [job] = relay.jobs()
    [record] = [record for record in caplog.records if record.getMessage() == "message accepted"]
    fields = {name: record.__dict__[name] for name in ("message_id", "client", "helo", "recipients", "size")}
    assert fields == {
        "message_id": job.message_id,
        "client": "127.0.0.1",
        "helo": "client.example",
        "recipients": 1,
        "size": 14,
    }
    assert "secret" not in caplog.text


# Loss


async def test_a_client_that_leaves_within_its_message_has_sent_nothing() -> None:
    async with relaying() as relay:
        async with client_in_data(relay) as client:
            await client.say(b"half a mess", 0)
        await until(lambda: relay.listener.sessions == 0)
        await until(lambda: not relay.listener._services.storing)
        assert relay.spool.objects == {}
        assert relay.jobs() == []


async def test_a_client_that_half_closes_within_its_message_has_sent_nothing() -> None:
    async with relaying() as relay, client_in_data(relay) as client:
        client.writer.write(b"hi\r\n.\r")
        client.writer.write_eof()
        assert await client.reader.read() == b""
        assert relay.jobs() == []


async def test_a_client_that_half_closes_still_gets_its_replies() -> None:
    spool = SlowSpool()
    async with relaying(spool=spool) as relay, client_in_data(relay) as client:
        client.writer.write(b"hi\r\n.\r\nNOOP\r\n")
        client.writer.write_eof()
        await asyncio.sleep(0.02)
        spool.go.set()
        replies = (await client.reader.read()).split(b"\r\n")
        assert replies[0].startswith(b"250 2.0.0 Ok: queued as ")
        assert replies[1:] == [b"250 2.0.0 Ok", b""]


async def test_a_complete_message_is_stored_although_its_client_leaves() -> None:
    spool = SlowSpool()
    async with relaying(spool=spool) as relay:
        async with client_in_data(relay) as client:
            await client.say(b"hi\r\n.\r\n", 0)
            await spool.asked.wait()
        await asyncio.sleep(0.02)
        spool.go.set()
        await until(lambda: len(relay.jobs()) == 1)
        await until(lambda: relay.listener.sessions == 0)


# Flow


async def test_a_spool_that_stalls_stops_the_reading_and_loses_nothing() -> None:
    spool, content = SlowSpool(), (b"y" * 998 + b"\r\n") * 8000
    async with relaying(spool=spool) as relay, client_in_data(relay) as client:
        client.writer.write(content + b".\r\n")
        sending = asyncio.create_task(client.writer.drain())
        await spool.asked.wait()
        await asyncio.sleep(0.1)
        [connection] = relay.listener._connections
        assert connection._conversation._reception is not None
        assert connection._conversation._reception.waiting_octets <= 128 * 1024 + 64 * 1024
        assert not connection._flow.transport.is_reading()
        spool.go.set()
        [reply] = await client.hear()
        await sending
        assert reply.startswith(b"250 ")
        assert list(spool.objects.values()) == [content]


async def test_input_sent_far_ahead_of_a_decision_waits_in_the_socket() -> None:
    spool = SlowSpool()
    async with relaying(spool=spool) as relay, client_in_data(relay) as client:
        client.writer.write(b"hi\r\n.\r\n" + b"NOOP\r\n" * 500_000)
        await spool.asked.wait()
        await asyncio.sleep(0.1)
        [connection] = relay.listener._connections
        assert connection._session.waiting_octets <= 2 * 64 * 1024
        assert not connection._flow.transport.is_reading()
        spool.go.set()
        first, *others = await client.hear(1000)
        assert first.startswith(b"250 2.0.0 Ok: queued")
        assert set(others) == {b"250 2.0.0 Ok"}


# Time


def quick(**seconds: float) -> IngressSettings:
    return replace(SETTINGS, timeouts=replace(Timeouts(), **seconds))


TIMED_OUT = [b"421 4.4.2 Timeout, closing the connection", b""]


async def test_a_silent_client_is_told_goodbye() -> None:
    async with relaying(quick(command=0.1)) as relay, client_of(relay) as client:
        assert await client.hear(3) == [GREETED[0], *TIMED_OUT]


async def test_a_trickle_of_octets_is_no_command() -> None:
    async with relaying(quick(command=0.2)) as relay, client_of(relay) as client:
        await client.hear()
        for octet in b"NOOP NOOP":
            client.writer.write(bytes([octet]))
            await asyncio.sleep(0.04)
        assert await client.hear(2) == TIMED_OUT


async def test_commands_move_the_deadline_up_to_the_end_of_the_session() -> None:
    async with relaying(quick(command=0.15, session=0.5)) as relay, client_of(relay) as client:
        await client.hear()
        for _ in range(6):
            assert await client.say(b"NOOP\r\n") == [b"250 2.0.0 Ok"]
            await asyncio.sleep(0.05)
        replies: list[bytes] = []
        while not replies or replies[-1] != b"":
            replies += await client.say(b"NOOP\r\n")
            await asyncio.sleep(0.05)
        assert TIMED_OUT[0] in replies


async def test_content_that_stops_coming_is_not_accepted() -> None:
    async with relaying(quick(block=0.1)) as relay, client_in_data(relay) as client:
        await client.say(b"half a mess", 0)
        assert await client.hear(2) == TIMED_OUT
        assert relay.jobs() == []


async def test_a_store_that_takes_too_long_is_451() -> None:
    async with relaying(quick(store=0.1), spool=SlowSpool()) as relay, client_in_data(relay) as client:
        [reply] = await client.say(b"hi\r\n.\r\n")
        assert reply.startswith(b"451 4.3.0")
        assert await client.say(b"NOOP\r\n") == [b"250 2.0.0 Ok"]


async def test_a_store_that_takes_long_is_waited_for_beyond_the_other_timeouts() -> None:
    spool = SlowSpool()
    slow = quick(command=0.05, block=0.05, session=0.1)
    async with relaying(slow, spool=spool) as relay, client_in_data(relay) as client:
        client.writer.write(b"hi\r\n.\r\n")
        await asyncio.sleep(0.2)
        spool.go.set()
        [reply] = await client.hear()
        assert reply.startswith(b"250 ")


async def test_a_client_that_does_not_leave_after_its_421_is_cut_off() -> None:
    async with relaying(quick(command=0.05, linger=0.1)) as relay, client_of(relay) as client:
        await client.hear(2)
        with suppress(RuntimeError, ConnectionError):  # the two loops differ in what a lost writer says
            for _ in range(20):
                client.writer.write(b"NOOP\r\n")
                await asyncio.sleep(0.02)
        await until(lambda: relay.listener.sessions == 0)


# Load


async def test_too_many_connections_of_a_client_are_refused_and_others_go_on() -> None:
    async with relaying(replace(SETTINGS, max_connections_per_client=2)) as relay:
        async with client_of(relay) as first, client_of(relay) as second:
            assert await first.hear() == await second.hear() == [GREETED[0]]
            async with client_of(relay) as third:
                refused = [b"421 4.7.0 Too many connections, try again later", b""]
                assert await third.hear(2) == refused
            assert await second.say(b"NOOP\r\n") == [b"250 2.0.0 Ok"]
        await until(lambda: relay.listener.sessions == 0)
        async with client_of(relay) as fourth:
            assert await fourth.hear() == [GREETED[0]]


async def test_too_many_connections_in_all_are_refused() -> None:
    settings = replace(SETTINGS, max_connections=1)
    async with relaying(settings) as relay, client_of(relay) as first, client_of(relay) as second:
        await first.hear()
        assert (await second.hear())[0].startswith(b"421 4.7.0")


# The end

SHUT_DOWN = b"421 4.3.2 System is shutting down, closing the connection"


async def closing(relay: Relay, grace: float) -> Awaitable[None]:
    task = asyncio.create_task(relay.listener.close(grace))
    await asyncio.sleep(0.02)
    return task


async def test_a_closing_listener_ends_idle_sessions_at_once() -> None:
    async with relaying() as relay, client_of(relay) as client:
        await client.hear()
        task = await closing(relay, 5)
        assert await client.hear(2) == [SHUT_DOWN, b""]
        await client.close()
        async with asyncio.timeout(1):
            await task
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", relay.listener.port)


async def test_a_closing_listener_is_not_stopped_by_a_connection_that_was_reset() -> None:
    async with relaying() as relay, client_of(relay) as gone, client_of(relay) as client:
        assert await gone.hear() == await client.hear() == [GREETED[0]]
        gone.writer.transport.abort()
        await relay.listener.close(grace=1)
        assert await client.hear(2) == [SHUT_DOWN, b""]


async def test_a_closing_listener_lets_a_transaction_end() -> None:
    async with relaying() as relay, client_in_data(relay) as client:
        task = await closing(relay, 5)
        replies = await client.say(b"hi\r\n.\r\n", 3)
        assert replies[0].startswith(b"250 ")
        assert replies[1:] == [SHUT_DOWN, b""]
        await client.close()
        await task
        assert len(relay.jobs()) == 1


async def test_a_closing_listener_waits_no_longer_than_its_grace() -> None:
    async with relaying() as relay, client_in_data(relay) as client:
        task = await closing(relay, 0.1)
        assert await client.hear(2) == [SHUT_DOWN, b""]
        await client.close()
        await task
        assert relay.jobs() == []


async def test_a_message_that_is_being_stored_at_the_end_of_the_grace_is_not_accepted() -> None:
    async with relaying(spool=SlowSpool()) as relay, client_in_data(relay) as client:
        client.writer.write(b"hi\r\n.\r\n")
        task = await closing(relay, 0.1)
        assert await client.hear(2) == [SHUT_DOWN, b""]
        await client.close()
        await task
        assert relay.jobs() == []
        assert not relay.listener._services.storing


async def test_a_port_in_use_is_an_error_that_names_it() -> None:
    async with relaying() as relay:
        taken = replace(SETTINGS, port=relay.listener.port)
        with pytest.raises(ListenError, match=f"127.0.0.1 port {taken.port}: the port is in use"):
            async with relaying(taken):
                pass
