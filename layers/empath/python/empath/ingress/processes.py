"""Several processes that listen on the same ports (SO_REUSEPORT), and the parent that looks after them.

The parent holds the ports without listening, starts the processes, starts again what dies, passes signals on
and answers for all of them on the health port. It serves no mail itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from time import monotonic

from empath.domain.errors import ConfigError, EmpathError
from empath.ingress import sockets
from empath.ingress.child import REPORT_EVERY, Place, reports_of, run_as_child
from empath.ingress.health import Check, Report
from empath.ingress.health_server import serving_health
from empath.ingress.process import OpenParts, Stop, new_event_loop, run_alone
from empath.ingress.settings import IngressSettings, PortKind, ProcessSettings
from empath.ingress.watches import Time

logger = logging.getLogger(__name__)

HEARD_WITHIN = 10.0
"""Seconds without a line of a process after which it counts as dead: ten of its lines."""

HUNG = 30.0
"""Seconds without a line after which a process that had written some is killed, to be started again."""

FIRST_PAUSE = 0.5
MAX_PAUSE = 30.0
"""Seconds before a process that died is started again: doubled each time, up to this."""

STEADY = 60.0
"""Seconds of life after which a death is the first one again."""

LAST_WORDS = 5.0
"""Seconds beyond delay and grace that processes get to end, before they are killed."""

TRY_AGAIN = 1
"""The exit code of a process that AWS did not answer when it started."""

UNUSABLE = 2
"""The exit code of a process whose settings cannot be used: starting it again will not help."""


CANNOT_START = 126
"""The exit code, as a shell has it, of a process that never began."""


class Unusable(EmpathError):
    """A process says that starting it again will not help."""


def pause_before(start: int) -> float:
    """Seconds before the `start`-th try in a row to start a process again."""
    return float(min(FIRST_PAUSE * 2 ** min(start - 1, 32), MAX_PAUSE))


def run(
    command: Sequence[str],
    arguments: Sequence[str],
    settings: ProcessSettings,
    listener: IngressSettings,
    open_parts: OpenParts,
) -> int:
    """Serve until a signal asks for the end, in as many processes as are set; the exit code.

    `command` starts this program, and `arguments` is what it was started with beyond that. Raises
    ListenError, and what `open_parts` raises.
    """
    place = Place.of_arguments(arguments)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if place is not None:
            runner.run(run_as_child(place, settings, open_parts))
        elif settings.processes == 1:
            runner.run(run_alone(settings, open_parts))
        else:
            try:
                runner.run(Processes(command, settings, listener).run())
            except Unusable:
                return UNUSABLE  # the process has said why
    return 0


class Child:
    """What the parent knows of a process."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self.process: asyncio.subprocess.Process | None = None
        self.was_ready = False
        self._changed_at = time()
        self._ready: Report | None = None

    def started(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._changed_at = self._time()
        self._ready = None

    def said(self, line: bytes) -> None:
        """Raises ValueError, KeyError or TypeError for what is no line."""
        live, ready = reports_of(line)
        self._changed_at = self._time()
        self._ready = Report({**live.checks, **ready.checks})
        self.was_ready = self.was_ready or ready.ok

    def ended(self) -> None:
        self.process = None
        self._changed_at = self._time()
        self._ready = None

    @property
    def is_hung(self) -> bool:
        return self._ready is not None and self._time() - self._changed_at > HUNG

    def send(self, number: signal.Signals) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    @property
    def live(self) -> Check:
        age = self._time() - self._changed_at
        if self.process is None:
            return Check(age <= HEARD_WITHIN, "ended, and is to be started again", age)
        return Check(age <= HEARD_WITHIN, "heard" if self._ready else "starting", age)

    def ready(self) -> dict[str, Check]:
        """What the process said of itself; one check that is not ok while there is nothing."""
        live = self.live
        if self._ready is None:
            return {"process": replace(live, ok=False)}
        said = {name: replace(check, age=check.age + live.age) for name, check in self._ready.checks.items()}
        return {"process": live, **said}


class Processes:
    def __init__(
        self,
        command: Sequence[str],
        settings: ProcessSettings,
        listener: IngressSettings,
        time: Time = monotonic,
    ) -> None:
        """`command` starts a process; it understands what `child.Place` adds to it."""
        if not sockets.can_share_ports():
            raise ConfigError("EMPATH_PROCESSES should hold 1 on this platform: it cannot share ports")
        self._command = tuple(command)
        self._settings = settings
        self._listener = listener
        self._time = time
        self._children = [Child(time) for _ in range(settings.processes)]
        self._stopping = asyncio.Event()
        self._changed_at = time()

    # Health of all together

    def live(self) -> Report:
        return Report({f"process_{number}": child.live for number, child in enumerate(self._children)})

    async def ready(self) -> Report:
        draining = self._stopping.is_set()
        text = "draining" if draining else "started"
        checks = {"parent": Check(not draining, text, self._time() - self._changed_at)}
        for number, child in enumerate(self._children):
            checks |= {f"process_{number}.{name}": check for name, check in child.ready().items()}
        return Report(checks)

    # Life of all together

    async def run(self) -> None:
        """Until a signal asks for the end. Raises ListenError, and Unusable when a process cannot start."""
        stop = Stop()
        stop.listen()
        async with AsyncExitStack() as stack:
            ports: dict[PortKind, int] = {}
            for kind, port in self._listener.ports.items():
                held = sockets.reserve(self._listener.host, port, sockets.SETTINGS[kind])
                stack.callback(sockets.close, held)
                ports[kind] = sockets.port_of(held)
                where = (self._listener.host, ports[kind], kind.value)
                logger.info("%d processes share %s port %d for %s", len(self._children), *where)
            host, health_port = self._settings.health_host, self._settings.health_port
            if health_port is not None:
                number = await stack.enter_async_context(serving_health(self, host, health_port))
                logger.info("health on %s port %d", host, number)
            await self._look_after(ports, stop)

    async def _look_after(self, ports: dict[PortKind, int], stop: Stop) -> None:
        keepers = {
            asyncio.create_task(self._keep(number, child, ports))
            for number, child in enumerate(self._children)
        }
        asked = asyncio.create_task(stop.asked.wait())
        try:
            await asyncio.wait({asked, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            await self._end(keepers, stop)
        await asyncio.gather(*keepers)

    async def _keep(self, number: int, child: Child, ports: dict[PortKind, int]) -> None:
        """Start a process, again and again, until all are to end."""
        deaths = 0
        while not self._stopping.is_set():
            began = self._time()
            try:
                code = await self._live(number, child, ports)
            except OSError as error:  # no memory for another process, say
                logger.error("process %d cannot be started: %s", number, error)
                code = CANNOT_START
            if self._stopping.is_set():
                return
            if code == UNUSABLE and not child.was_ready:
                raise Unusable(f"process {number} cannot run")
            deaths = 1 if self._time() - began > STEADY else deaths + 1
            pause = pause_before(deaths)
            logger.error("process %d ended with %d; starting it again in %.1f s", number, code, pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _live(self, number: int, child: Child, ports: dict[PortKind, int]) -> int:
        """One life of a process; its exit code."""
        ours, theirs = os.pipe()
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", buffering=0)
        )
        try:
            process = await self._start(Place(number, len(self._children), ports, theirs))
            child.started(process)
            if self._stopping.is_set():
                child.send(signal.SIGTERM)
            looking = [
                asyncio.create_task(_listen_to(child, reader)),
                asyncio.create_task(_kill_when_hung(number, child)),
            ]
            try:
                return await process.wait()
            finally:
                child.ended()
                for task in looking:
                    task.cancel()
                await asyncio.gather(*looking, return_exceptions=True)
        finally:
            transport.close()

    async def _start(self, place: Place) -> asyncio.subprocess.Process:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *place.arguments(),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(place.pipe,),
                start_new_session=True,  # so that Ctrl-C comes from us, once, and not from the terminal, too
            )
        finally:
            os.close(place.pipe)
        logger.info("process %d started", place.number, extra={"pid": process.pid})
        return process

    async def _end(self, keepers: set[asyncio.Task[None]], stop: Stop) -> None:
        """Ask all processes to end, and see to it that they do."""
        self._stopping.set()
        self._changed_at = self._time()
        logger.info("ending %d processes", len(self._children))
        self._send_all(signal.SIGTERM)
        hurrying = asyncio.create_task(self._hurry(stop))
        patience = self._settings.shutdown_delay + self._listener.shutdown_grace + LAST_WORDS
        _, late = await asyncio.wait(keepers, timeout=patience)
        hurrying.cancel()
        if late:
            logger.error("%d processes did not end within %.0f s and are killed", len(late), patience)
            self._send_all(signal.SIGKILL)
            await asyncio.wait(late)

    async def _hurry(self, stop: Stop) -> None:
        await stop.at_once.wait()
        self._send_all(signal.SIGTERM)

    def _send_all(self, number: signal.Signals) -> None:
        for child in self._children:
            child.send(number)


async def _listen_to(child: Child, reader: asyncio.StreamReader) -> None:
    async for line in reader:
        try:
            child.said(line)
        except (ValueError, KeyError, TypeError):
            logger.exception("a process said what is no report")


async def _kill_when_hung(number: int, child: Child) -> None:
    while not child.is_hung:
        await asyncio.sleep(REPORT_EVERY)
    logger.error("process %d was not heard from for %.0f s and is killed", number, HUNG)
    child.send(signal.SIGKILL)
