"""Several processes: their shares, what their parent knows of them, and the ports that it holds."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from empath.domain.errors import ConfigError
from empath.ingress import sockets
from empath.ingress.child import Place, line_of, reports_of
from empath.ingress.health import Check, Report
from empath.ingress.listener import ListenError
from empath.ingress.processes import HEARD_WITHIN, MAX_PAUSE, Child, Processes, Unusable, pause_before
from empath.ingress.settings import IngressSettings, PortKind, ProcessSettings
from empath.testing.clock import ManualClock

PLACE = Place(1, 3, {PortKind.RELAY: 2525, PortKind.SUBMISSION: 2587}, 7)
LIVE = Report({"event_loop": Check(ok=True, text="the event loop answers", age=0.5)})
READY = Report({"spool": Check(ok=True, text="the last call went well", age=2)})
NOT_READY = Report({"spool": Check(ok=False, text="the last call failed", age=2)})


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.processes = Processes(["ingress"], ProcessSettings(processes=2), IngressSettings(), self.time)
        self.children = self.processes._children

    def time(self) -> float:
        return self.clock.now().timestamp()

    async def start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec("true")


# A process's place


def test_a_place_survives_the_command_line() -> None:
    assert Place.of_arguments(PLACE.arguments()) == PLACE
    assert Place.of_arguments([]) is None


def test_limits_are_shared_and_ports_are_those_of_the_parent() -> None:
    settings = IngressSettings(port=0, max_connections=5000, max_connections_per_client=200)
    share = PLACE.share_of(settings)
    assert share.ports == PLACE.ports
    assert share.reuse_port
    assert (share.max_connections, share.max_connections_per_client) == (1667, 67)


def test_a_report_survives_the_pipe() -> None:
    assert reports_of(line_of(LIVE, READY)) == (LIVE, READY)


# What the parent knows


async def test_the_parent_is_ready_once_every_process_is() -> None:
    bench = Bench()
    assert not (await bench.processes.ready()).ok
    for child in bench.children:
        child.said(line_of(LIVE, READY))
    assert (await bench.processes.ready()).ok
    bench.children[1].said(line_of(LIVE, NOT_READY))
    report = await bench.processes.ready()
    assert {name for name, check in report.checks.items() if not check.ok} == {"process_1.spool"}


async def test_a_process_that_is_silent_for_long_is_neither_alive_nor_ready() -> None:
    bench = Bench()
    for child in bench.children:
        child.said(line_of(LIVE, READY))
    bench.clock.advance(HEARD_WITHIN)
    bench.children[0].said(line_of(LIVE, READY))
    assert bench.processes.live().ok
    bench.clock.advance(1)
    report = bench.processes.live()
    assert {name: check.ok for name, check in report.checks.items()} == {
        "process_0": True,
        "process_1": False,
    }
    assert not (await bench.processes.ready()).ok


async def test_what_a_process_said_ages_with_the_time_since() -> None:
    bench = Bench()
    bench.children[0].said(line_of(LIVE, READY))
    bench.clock.advance(3)
    assert (await bench.processes.ready()).checks["process_0.spool"].age == 5


async def test_a_process_that_ended_is_not_ready_until_its_successor_says_so() -> None:
    bench = Bench()
    child = bench.children[0]
    child.said(line_of(LIVE, READY))
    child.ended()
    assert child.ready() == {"process": Check(ok=False, text="ended, and is to be started again", age=0)}
    process = await bench.start()
    child.started(process)
    await process.wait()
    assert child.ready() == {"process": Check(ok=False, text="starting", age=0)}
    assert child.live.ok
    child.said(line_of(LIVE, READY))
    assert all(check.ok for check in child.ready().values())


def test_a_line_that_is_no_report_says_nothing() -> None:
    child = Child(lambda: 0)
    for line in (b"x\n", b"{}\n", b"[]\n", b'{"live": {"checks": {"a": {"b": 1}}}}\n'):
        with pytest.raises((ValueError, KeyError, TypeError)):
            child.said(line)
    assert not child.was_ready


def test_each_start_in_a_row_comes_later_up_to_a_limit() -> None:
    assert [pause_before(start) for start in (1, 2, 3, 4)] == [0.5, 1, 2, 4]
    assert pause_before(7) == pause_before(10_000) == MAX_PAUSE


def test_a_platform_that_cannot_share_ports_is_told_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(ConfigError, match=r"^EMPATH_PROCESSES should hold 1 on this platform"):
        Processes(["ingress"], ProcessSettings(processes=2), IngressSettings())


# What the parent does

SPEAKER = """
import json, os, signal, sys, time
place = json.loads(sys.argv[2])
check = {"ok": True, "text": "fine", "age": 0}
report = {"ok": True, "checks": {"spool": check}}
os.write(place["pipe"], json.dumps({"live": report, "ready": report}).encode() + b"\\n")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
time.sleep(3600)
"""
"""A process that speaks once and is silent for ever."""


@asynccontextmanager
async def running(script: str) -> AsyncIterator[Processes]:
    """Two processes of `script`, ended as by a signal."""
    command = [sys.executable, "-c", script]
    processes = Processes(command, ProcessSettings(processes=2), IngressSettings(port=0, shutdown_grace=5))
    async with asyncio.timeout(30):
        work = asyncio.create_task(processes.run())
        try:
            yield processes
        finally:
            if not work.done():
                os.kill(os.getpid(), signal.SIGTERM)
            await work


async def pid_of(processes: Processes, number: int, other_than: int = 0) -> int:
    child = processes._children[number]
    while not (child.was_ready and child.process is not None and child.process.pid != other_than):
        await asyncio.sleep(0.01)
    return child.process.pid


async def test_a_process_that_hangs_is_killed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("empath.ingress.processes.REPORT_EVERY", 0.05)
    async with running(SPEAKER) as processes:
        before = await pid_of(processes, 1)
        monkeypatch.setattr("empath.ingress.processes.HUNG", 0.2)
        assert await pid_of(processes, 1, other_than=before) != before
        monkeypatch.undo()


async def test_a_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("empath.ingress.processes.LAST_WORDS", -4.8)
    stubborn = SPEAKER.replace("sys.exit(0)", "None")
    async with running(stubborn) as processes:
        pids = [await pid_of(processes, number) for number in (0, 1)]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_process_that_cannot_use_its_settings_ends_all() -> None:
    with pytest.raises(Unusable):
        async with running("import sys; sys.exit(2)") as processes:
            while not processes._stopping.is_set():
                await asyncio.sleep(0.01)


async def test_settings_that_become_unusable_later_do_not_end_those_who_serve() -> None:
    script = SPEAKER.replace("time.sleep(3600)", "time.sleep(0.2); sys.exit(2)")
    async with running(script) as processes:
        before = await pid_of(processes, 0)
        assert await pid_of(processes, 0, other_than=before) != before


# Ports


def test_a_reserved_port_belongs_to_those_who_share_it() -> None:
    held = sockets.reserve("127.0.0.1", 0, "EMPATH_SMTP_PORT")
    port = sockets.port_of(held)
    [shared] = sockets.bind("127.0.0.1", port, "EMPATH_SMTP_PORT", shared=True)
    shared.listen()
    socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ListenError, match="port is in use"):
        sockets.reserve("127.0.0.1", port, "EMPATH_SMTP_PORT")
    sockets.close([*held, shared])


def test_all_addresses_of_a_name_get_the_same_free_port() -> None:
    bound = sockets.bind("localhost", 0, "EMPATH_SMTP_PORT")
    assert {sock.getsockname()[1] for sock in bound} == {sockets.port_of(bound)}
    sockets.close(bound)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "the address is not one of this machine"),
        ("no-such-host.invalid", r".*[Nn]ame.*"),
    ],
)
@pytest.mark.parametrize(
    ("port_setting", "setting"),
    [("EMPATH_SMTP_PORT", "EMPATH_SMTP_HOST"), ("EMPATH_HEALTH_PORT", "EMPATH_HEALTH_HOST")],
)
def test_an_address_that_cannot_be_had_is_told_with_its_own_setting_and_the_reason(
    host: str, reason: str, port_setting: str, setting: str
) -> None:
    with pytest.raises(ListenError, match=rf"^{setting}: cannot listen on {host} port 0: {reason}$"):
        sockets.bind(host, 0, port_setting)


def test_a_port_without_the_right_to_it_is_told_so() -> None:
    error = ListenError.of(PermissionError(errno.EACCES, "denied"), "0.0.0.0", 25, "EMPATH_SMTP_PORT")
    assert str(error) == (
        "EMPATH_SMTP_PORT: cannot listen on 0.0.0.0 port 25: "
        "ports below 1024 need a right that this process does not have"
    )
