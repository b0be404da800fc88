"""One of several processes on the same ports: its share of the limits, and what it tells its parent.

Each second it writes its health as a line of JSON into a pipe whose other end is the parent's. When that end
is gone the parent is, and nobody would replace or stop us: so we end, in order.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from empath.ingress.health import Check, Health, Report
from empath.ingress.process import OpenParts, Stop, health_of, serve_mail
from empath.ingress.settings import IngressSettings, PortKind, ProcessSettings
from empath.ports import Clock

logger = logging.getLogger(__name__)

FLAG = "--child"

REPORT_EVERY = 1.0
"""Seconds between two lines."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a child stands: what its parent tells it on its command line."""

    number: int
    """From 0."""

    processes: int
    ports: dict[PortKind, int]
    """As reserved by the parent, so that none is 0."""

    pipe: int
    """The file descriptor to write to."""

    @classmethod
    def of_arguments(cls, arguments: Sequence[str]) -> Self | None:
        """None when there is no parent."""
        match arguments:
            case [flag, text] if flag == FLAG:
                told: dict[str, Any] = json.loads(text)
                ports = {PortKind(kind): number for kind, number in told.pop("ports").items()}
                return cls(ports=ports, **told)
        return None

    def arguments(self) -> list[str]:
        ports = {kind.value: number for kind, number in self.ports.items()}
        told = {"number": self.number, "processes": self.processes, "ports": ports, "pipe": self.pipe}
        return [FLAG, json.dumps(told)]

    def share_of(self, settings: IngressSettings) -> IngressSettings:
        """The settings of one process of several: their limits are those of all together.

        The kernel spreads connections over the processes as it likes, so a client or all of them may reach
        a limit of one process while there is room in another; shares are rounded up.
        """
        return replace(
            settings,
            port=self.ports.get(PortKind.RELAY),
            submission_port=self.ports.get(PortKind.SUBMISSION),
            submissions_port=self.ports.get(PortKind.SUBMISSIONS),
            reuse_port=True,
            max_connections=-(-settings.max_connections // self.processes),
            max_connections_per_client=-(-settings.max_connections_per_client // self.processes),
        )


async def run_as_child(place: Place, settings: ProcessSettings, open_parts: OpenParts) -> None:
    """Raises ListenError, and what `open_parts` raises."""
    stop = Stop()
    stop.listen()
    async with open_parts() as parts:
        share = place.share_of(parts.settings)
        health = health_of(parts, share)
        async with health.running():
            telling = asyncio.create_task(_tell(place.pipe, health, parts.clock, stop))
            try:
                await serve_mail(parts, share, health, stop, settings.shutdown_delay)
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)


def line_of(live: Report, ready: Report) -> bytes:
    return json.dumps({"live": live.as_json(), "ready": ready.as_json()}).encode() + b"\n"


def reports_of(line: bytes) -> tuple[Report, Report]:
    """Live and ready, as `line_of` wrote them."""
    told = json.loads(line)
    live, ready = (
        Report({name: Check(**fields) for name, fields in told[kind]["checks"].items()})
        for kind in ("live", "ready")
    )
    return live, ready


async def _tell(pipe: int, health: Health, clock: Clock, stop: Stop) -> None:
    os.set_blocking(pipe, False)
    while True:
        line = line_of(health.live(), await health.ready())
        try:
            os.write(pipe, line)
        except BlockingIOError:
            logger.warning("the parent process does not listen")
        except BrokenPipeError:
            logger.error("the parent process is gone")
            stop.ask()
            return
        await clock.sleep(REPORT_EVERY)
