"""One process that serves mail, from its parts to the end of its last session.

    SIGTERM or SIGINT -> not ready at once
    -> shutdown_delay: connections still come, for whoever sends them has to notice
    -> no more listening: sessions end, at the latest after shutdown_grace, with 421

A second signal skips what is left of both times.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import logging
import resource
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from time import monotonic
from typing import Protocol

from empath.ingress.health import Dependency, Health, Heartbeat
from empath.ingress.health_server import serving_health
from empath.ingress.listener import Listener, serve
from empath.ingress.settings import IngressSettings, ProcessSettings
from empath.pipeline.accept import Acceptance
from empath.ports import Clock, IdSource, Metrics

logger = logging.getLogger(__name__)


class Parts(Protocol):
    """What a process is put together from."""

    @property
    def settings(self) -> IngressSettings: ...
    @property
    def acceptance(self) -> Acceptance: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def ids(self) -> IdSource: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def dependencies(self) -> Sequence[Dependency]: ...


OpenParts = Callable[[], AbstractAsyncContextManager[Parts]]


class Stop:
    """What signals ask for."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def listen(self) -> None:
        """To SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.ask)

    def ask(self) -> None:
        """To end in order; again: at once."""
        (self.at_once if self.asked.is_set() else self.asked).set()

    async def wait_out(self, seconds: float) -> None:
        """Unless the end is to come at once."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.at_once.wait()


async def run_alone(settings: ProcessSettings, open_parts: OpenParts) -> None:
    """The one process there is, with its health port. Raises ListenError, and what `open_parts` raises."""
    stop = Stop()
    stop.listen()
    async with open_parts() as parts:
        health = health_of(parts, parts.settings)
        async with health.running(), _maybe_serving(health, settings):
            await serve_mail(parts, parts.settings, health, stop, settings.shutdown_delay)


async def serve_mail(
    parts: Parts, settings: IngressSettings, health: Health, stop: Stop, shutdown_delay: float
) -> None:
    """Listen until `stop` is asked, then end as the module says. Raises ListenError."""
    listener = await serve(settings, parts.acceptance, parts.clock, parts.ids, parts.metrics)
    health.listening(listener)
    # What is here by now stays: a full collection would walk through it again, for 0.1 s of everybody's time.
    gc.collect()
    gc.freeze()
    await stop.asked.wait()
    health.draining()
    logger.info("draining: %d sessions, %d messages are being stored", listener.sessions, listener.storing)
    await stop.wait_out(shutdown_delay)
    await _close(listener, stop)
    logger.info("ended")


def health_of(parts: Parts, settings: IngressSettings) -> Health:
    return Health(
        Heartbeat(parts.clock, monotonic),
        tuple(parts.dependencies),
        monotonic,
        max_sessions=settings.max_connections,
    )


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is uvloop: half the CPU per message. And as many files as we may open."""
    _raise_open_files()
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


async def _close(listener: Listener, stop: Stop) -> None:
    closing = asyncio.create_task(listener.close())
    hurrying = asyncio.create_task(stop.at_once.wait())
    await asyncio.wait({closing, hurrying}, return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()
    if not closing.done():
        await listener.close(grace=0)
    await closing


@asynccontextmanager
async def _maybe_serving(health: Health, settings: ProcessSettings) -> AsyncIterator[None]:
    if settings.health_port is None:
        yield
        return
    async with serving_health(health, settings.health_host, settings.health_port) as port:
        logger.info("health on %s port %d", settings.health_host, port)
        yield


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
