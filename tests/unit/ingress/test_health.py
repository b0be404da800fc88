"""Health: what counts as alive and as ready, and how its port behaves towards strangers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from empath.domain.errors import QueueTrouble, SpoolTrouble
from empath.ingress.health import BLOCKED, FRESH, PROBE_EVERY, Check, Dependency, Health, Heartbeat, Report
from empath.ingress.health_server import serving_health
from empath.ingress.listener import ListenError
from empath.ingress.watches import CallWatch, WatchedQueue, WatchedSpool
from empath.ports import OutgoingJob, QueueName
from empath.testing.clock import ManualClock
from empath.testing.faults import Faults
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool


@dataclass
class Busy:
    """A listener, as far as its health is concerned."""

    sessions: int = 0
    storing: int = 0


@dataclass
class Bench:
    clock: ManualClock = field(default_factory=ManualClock)
    faults: Faults = field(default_factory=Faults)
    listener: Busy = field(default_factory=Busy)
    probes: int = 0
    probe_fault: Exception | None = None
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answer.set()
        self.watch = CallWatch(self.time)
        self.spool = WatchedSpool(self.faults.wrap("spool", MemorySpool(), SpoolTrouble), self.watch)
        self.heartbeat = Heartbeat(self.clock, self.time)
        self.health = Health(
            self.heartbeat,
            (Dependency("spool", self.watch, self.probe, self.time),),
            self.time,
            max_sessions=3,
            max_storing=2,
        )

    def time(self) -> float:
        return self.clock.now().timestamp()

    async def probe(self) -> None:
        self.probes += 1
        await self.answer.wait()
        if self.probe_fault is not None:
            raise self.probe_fault

    async def store(self, content: AsyncIterator[bytes] | None = None) -> None:
        await self.spool.put("messages/1", content or octets())

    async def check(self, name: str) -> Check:
        return (await self.health.ready()).checks[name]


async def octets(fault: Exception | None = None) -> AsyncIterator[bytes]:
    yield b"hi"
    if fault is not None:
        raise fault


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    bench.health.listening(bench.listener)
    return bench


# Ready


async def test_a_process_is_ready_once_it_listens_and_the_services_answer() -> None:
    bench = Bench()
    assert not (await bench.health.ready()).ok
    assert (await bench.check("listener")).text == "not listening yet"
    bench.health.listening(bench.listener)
    assert (await bench.health.ready()).ok


async def test_draining_is_not_ready_and_still_alive(bench: Bench) -> None:
    bench.health.draining()
    assert not (await bench.health.ready()).ok
    assert (await bench.check("listener")).text == "draining"
    assert bench.health.live().ok


@pytest.mark.parametrize("full", [Busy(sessions=3), Busy(storing=2)])
async def test_at_a_limit_it_is_not_ready(bench: Bench, full: Busy) -> None:
    bench.health.listening(full)
    assert not (await bench.check("in_flight")).ok
    bench.health.listening(Busy(sessions=2, storing=1))
    assert (await bench.check("in_flight")).ok


async def test_calls_that_went_well_need_no_probe_until_they_are_old(bench: Bench) -> None:
    await bench.store()
    bench.clock.advance(FRESH)
    assert await bench.check("spool") == Check(ok=True, text="the last call went well", age=FRESH)
    assert bench.probes == 0
    bench.clock.advance(1)
    assert await bench.check("spool") == Check(ok=True, text="the last call went well", age=0)
    assert bench.probes == 1


async def test_a_call_that_failed_is_followed_by_a_probe_which_decides(bench: Bench) -> None:
    bench.faults.fail("spool.put")
    with pytest.raises(SpoolTrouble):
        await bench.store()
    bench.probe_fault = SpoolTrouble("still broken")
    assert await bench.check("spool") == Check(ok=False, text="the last call failed", age=0)
    bench.probe_fault = None
    bench.clock.advance(PROBE_EVERY)
    assert (await bench.check("spool")).ok


async def test_probes_are_some_seconds_apart_however_often_one_asks(bench: Bench) -> None:
    bench.probe_fault = SpoolTrouble("broken")
    for _ in range(10):
        assert not (await bench.check("spool")).ok
    assert bench.probes == 1
    bench.clock.advance(PROBE_EVERY)
    assert not (await bench.check("spool")).ok
    assert bench.probes == 2


async def test_a_message_that_passes_makes_ready_without_a_probe(bench: Bench) -> None:
    bench.probe_fault = SpoolTrouble("broken")
    assert not (await bench.check("spool")).ok
    await bench.store()
    assert (await bench.check("spool")).ok
    assert bench.probes == 1


async def test_all_who_ask_at_once_wait_for_one_probe(bench: Bench) -> None:
    bench.answer.clear()
    asking = [asyncio.create_task(bench.check("spool")) for _ in range(5)]
    await asyncio.sleep(0.01)
    bench.answer.set()
    assert all(check.ok for check in await asyncio.gather(*asking))
    assert bench.probes == 1


async def test_a_probe_without_an_answer_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("empath.ingress.health.PROBE_TIMEOUT", 0.01)
    bench.answer.clear()
    assert not (await bench.check("spool")).ok


async def test_a_probe_with_a_defect_is_a_failure_with_a_traceback(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.probe_fault = ZeroDivisionError("a fault of ours")
    assert not (await bench.check("spool")).ok
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None


async def test_what_is_wrong_is_logged_once_and_its_end_too(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "empath.ingress")
    bench.probe_fault = SpoolTrouble("arn:aws:iam::1:role/secret may not")
    for _ in range(3):
        check = await bench.check("spool")
        assert "arn" not in check.text
        bench.clock.advance(PROBE_EVERY)
    bench.probe_fault = None
    await bench.check("spool")
    assert [record.getMessage() for record in caplog.records] == [
        "spool does not answer: SpoolTrouble: arn:aws:iam::1:role/secret may not",
        "spool answers again",
    ]


# Watches


async def test_a_client_that_fails_says_nothing_about_the_spool(bench: Bench) -> None:
    await bench.store()
    with pytest.raises(ConnectionError):
        await bench.store(octets(ConnectionError("gone")))
    assert bench.watch.is_fine is True


async def test_every_call_of_both_ports_is_noted_and_passed_on() -> None:
    clock, faults = ManualClock(), Faults()
    watch = CallWatch(lambda: clock.now().timestamp())
    memory_queue, memory_spool = MemoryJobQueue(clock), MemorySpool()
    queue = WatchedQueue(faults.wrap("queue", memory_queue, QueueTrouble), watch)
    spool = WatchedSpool(faults.wrap("spool", memory_spool, SpoolTrouble), watch)

    async def noted(call: Any) -> bool | None:
        watch.is_fine = None
        await asyncio.gather(call, return_exceptions=True)
        return watch.is_fine

    async def read() -> bytes:
        return b"".join([chunk async for chunk in spool.read("messages/1")])

    assert await noted(spool.put("messages/1", octets()))
    assert await read() == b"hi"
    assert await noted(read())
    assert await noted(spool.delete("messages/1"))
    assert memory_spool.objects == {}
    assert await noted(queue.send(QueueName.ACCEPTED, [OutgoingJob("{}")]))
    [job] = memory_queue.receive(QueueName.ACCEPTED)
    assert await noted(queue.hide(QueueName.ACCEPTED, job.receipt, 0))
    assert await noted(queue.receive_dead(QueueName.ACCEPTED))
    faults.fail("queue.send")
    assert await noted(queue.send(QueueName.ACCEPTED, [OutgoingJob("{}")])) is False


# Alive


async def test_a_loop_that_does_not_turn_is_not_alive_until_it_does_again(bench: Bench) -> None:
    async with bench.health.running():
        await bench.clock.run_for(60)
        assert bench.health.live().ok
        bench.clock.advance(BLOCKED + 1)  # the sleeper is due, and had no turn yet
        check = bench.health.live().checks["event_loop"]
        assert check == Check(ok=False, text="the event loop does not turn", age=BLOCKED + 1)
        await bench.clock.run_for(1)
        assert bench.health.live().ok


async def test_a_loop_that_was_blocked_is_in_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async with bench.health.running():
        await bench.clock.run_for(1)
        bench.clock.advance(6)
        await bench.clock.run_for(0)
    assert [record.getMessage() for record in caplog.records] == ["the event loop was blocked for 5.0 s"]


# The port


@dataclass
class Fixed:
    """A health of somebody's choice."""

    ok: bool = True

    def live(self) -> Report:
        return Report({"event_loop": Check(ok=True, text="the event loop answers", age=0.123)})

    async def ready(self) -> Report:
        return Report({"spool": Check(self.ok, "the last call failed", 1.26)})


@asynccontextmanager
async def port_of(health: Fixed) -> AsyncIterator[tuple[int, aiohttp.ClientSession]]:
    async with (
        serving_health(health, "127.0.0.1", 0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        yield port, client


@pytest.mark.parametrize(("ok", "status"), [(True, 200), (False, 503)])
async def test_the_answer_is_a_status_for_machines_and_json_for_people(ok: bool, status: int) -> None:
    async with port_of(Fixed(ok)) as (_, client):
        async with client.get("/health/ready") as answer:
            assert answer.status == status
            assert await answer.json() == {
                "ok": ok,
                "checks": {"spool": {"ok": ok, "text": "the last call failed", "age": 1.3}},
            }
        async with client.get("/health/live") as answer:
            assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/health", 404),
        ("GET", "/health/ready/x", 404),
        ("POST", "/health/ready", 405),
        ("DELETE", "/health/live", 405),
        ("HEAD", "/health/live", 200),
    ],
)
async def test_nothing_else_is_there(method: str, path: str, status: int) -> None:
    async with port_of(Fixed()) as (_, client), client.request(method, path, data=b"x") as answer:
        assert answer.status == status
        assert answer.headers["Server"] == "Empath"


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n",
        b"MAIL FROM:<a@b.example>\r\n\r\n",
    ],
)
async def test_what_is_too_long_or_not_http_is_refused_and_the_connection_closed(request_head: bytes) -> None:
    async with port_of(Fixed()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_head)
        assert (await reader.read()).startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        writer.close()


LOCAL_HEADER = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x07\x03\x00\x04\xfd\x16\xee\x60"
"""What NLB sends of itself: LOCAL, no addresses, a checksum as TLV."""

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("head", [b"", LOCAL_HEADER])
@pytest.mark.parametrize("octets_at_once", [1, 13, 1000])
async def test_a_load_balancer_may_put_its_proxy_header_in_front(head: bytes, octets_at_once: int) -> None:
    async with port_of(Fixed()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for start in range(0, len(head + REQUEST), octets_at_once):
            writer.write((head + REQUEST)[start : start + octets_at_once])
            await asyncio.sleep(0.001)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize("head", [LOCAL_HEADER[:12] + b"\x99\x00\x00\x00", LOCAL_HEADER[:14] + b"\xff\xff"])
async def test_a_proxy_header_that_is_none_ends_the_connection(head: bytes) -> None:
    async with port_of(Fixed()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + REQUEST)
        with suppress(ConnectionError):  # what was not read yet is a reset
            assert await reader.read() == b""
        writer.close()


async def test_a_connection_that_asks_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("empath.ingress.health_server.CONNECTION_LIFE", 0.05)
    async with port_of(Fixed()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health/li")
        assert await reader.read() == b""
        writer.close()


async def test_more_connections_than_are_of_use_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("empath.ingress.health_server.MAX_CONNECTIONS", 1)
    async with port_of(Fixed()) as (port, _):
        _, held = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.02)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        held.close()


async def test_a_health_port_in_use_is_an_error_that_names_the_setting() -> None:
    async with port_of(Fixed()) as (port, _):
        with pytest.raises(
            ListenError,
            match=f"^EMPATH_HEALTH_PORT: cannot listen on 127.0.0.1 port {port}: the port is in use$",
        ):
            async with serving_health(Fixed(), "127.0.0.1", port):
                pass


def test_a_report_is_plain_json() -> None:
    report = Report({"a": Check(ok=True, text="fine", age=0.04)})
    assert json.loads(json.dumps(report.as_json()))["checks"]["a"]["age"] == 0
