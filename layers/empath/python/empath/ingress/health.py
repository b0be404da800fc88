"""Whether the ingress is alive, and whether it should get more connections.

    live    the event loop turns; otherwise the process is of no use and may be replaced
    ready   bound, spool and queue answer, not draining, in-flight below the limits

Knows neither HTTP (`health_server`) nor other processes (`processes`). A report tells what is wrong and for
how long; names and addresses of what is behind the ingress stay in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any, Protocol

from empath.domain.errors import Trouble
from empath.ingress.watches import CallWatch, Time, WatchedQueue, WatchedSpool
from empath.ports import Clock, JobQueue, Spool

logger = logging.getLogger(__name__)

FRESH = 30.0
"""Seconds that a call that went well speaks for its service. Afterwards a probe is asked."""

PROBE_EVERY = 5.0
"""Seconds between two probes of a service, however often somebody wants to know."""

PROBE_TIMEOUT = 3.0
"""Seconds; NLB waits 6 for the whole answer."""

PROBE_KEY = "health/probe"
"""An empty object beside the messages."""

HEARTBEAT = 1.0
NOTED_BLOCK = 2.0
"""Seconds of delay that are worth a line in the log."""

BLOCKED = 10.0
"""Seconds without a turn after which the event loop counts as dead."""

MAX_STORING = 1000
"""Messages on their way into the spool: ten for each connection of the S3 client's pool. Whoever comes now
waits for ten others first."""


@dataclass(frozen=True, slots=True)
class Check:
    ok: bool
    text: str
    age: float
    """Seconds since that was last known to be so."""


@dataclass(frozen=True, slots=True)
class Report:
    checks: Mapping[str, Check]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks.values())

    def as_json(self) -> dict[str, Any]:
        checks = {name: asdict(check) | {"age": round(check.age, 1)} for name, check in self.checks.items()}
        return {"ok": self.ok, "checks": checks}


class HasHealth(Protocol):
    """Who can be asked: one process, or the parent of several."""

    def live(self) -> Report: ...

    async def ready(self) -> Report: ...


class Listening(Protocol):
    """What is asked of a listener."""

    @property
    def sessions(self) -> int: ...

    @property
    def storing(self) -> int:
        """Messages on their way into the spool."""


class Heartbeat:
    """Notices an event loop that something blocks."""

    def __init__(self, clock: Clock, time: Time) -> None:
        self._clock = clock
        self._time = time
        self._last = time()

    async def beat(self) -> None:
        """For as long as the loop turns; until cancelled."""
        self._last = self._time()
        while True:
            await self._clock.sleep(HEARTBEAT)
            now = self._time()
            late = now - self._last - HEARTBEAT
            if late >= NOTED_BLOCK:
                logger.warning("the event loop was blocked for %.1f s", late)
            self._last = now

    def check(self) -> Check:
        age = self._time() - self._last
        ok = age <= BLOCKED
        return Check(ok, "the event loop answers" if ok else "the event loop does not turn", age)


class Dependency:
    """A service behind the ingress, known by the calls that pass (`watch`) or by a `probe` of our own.

    The probe raises a Trouble when the service is not fine.
    """

    def __init__(
        self, name: str, watch: CallWatch, probe: Callable[[], Awaitable[object]], time: Time
    ) -> None:
        self.name = name
        self._watch = watch
        self._probe = probe
        self._time = time
        self._next_probe = time()
        self._probing: asyncio.Task[None] | None = None

    async def check(self) -> Check:
        if not self._is_known_to_be_fine:
            if self._probing is None and self._time() >= self._next_probe:
                self._next_probe = self._time() + PROBE_EVERY
                self._probing = asyncio.create_task(self._run_probe())
            if self._probing is not None:
                await asyncio.wait([self._probing])  # whoever asks meanwhile waits for the same one
        if self._is_known_to_be_fine:
            return Check(ok=True, text="the last call went well", age=self._watch.age)
        what = "no call yet" if self._watch.is_fine is None else "the last call failed"
        return Check(ok=False, text=what, age=self._watch.age)

    def cancel(self) -> None:
        """No probe may be under way when its client closes."""
        if self._probing is not None:
            self._probing.cancel()

    @property
    def _is_known_to_be_fine(self) -> bool:
        return self._watch.is_fine is True and self._watch.age <= FRESH

    async def _run_probe(self) -> None:
        was_fine = self._watch.is_fine
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                await self._probe()
        except (Trouble, TimeoutError) as error:
            self._watch.note(is_fine=False)
            if was_fine is not False:  # once, not every few seconds
                logger.warning("%s does not answer: %s: %s", self.name, type(error).__name__, error)
        except Exception:  # whatever it is: the question is answered, with no
            self._watch.note(is_fine=False)
            logger.exception("the probe of %s failed", self.name)
        else:
            self._watch.note(is_fine=True)
            if was_fine is False:
                logger.info("%s answers again", self.name)
        finally:
            self._probing = None


@dataclass(frozen=True, slots=True)
class Watched:
    """Spool and queue that are watched, and what their health is known by."""

    spool: Spool
    queue: JobQueue
    dependencies: tuple[Dependency, ...]


def watched(
    spool: Spool, queue: JobQueue, ask_queue: Callable[[], Awaitable[object]], time: Time = monotonic
) -> Watched:
    """`ask_queue` changes nothing and raises QueueTrouble when the queue does not answer.

    The spool is asked to store an object that is there already, after the first time: a right to write is
    what is needed, and often the only one there is.
    """
    spool_watch, queue_watch = CallWatch(time), CallWatch(time)
    return Watched(
        WatchedSpool(spool, spool_watch),
        WatchedQueue(queue, queue_watch),
        (
            Dependency("spool", spool_watch, lambda: spool.put(PROBE_KEY, _nothing()), time),
            Dependency("queue", queue_watch, ask_queue, time),
        ),
    )


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


class Health:
    """Of one process."""

    def __init__(
        self,
        heartbeat: Heartbeat,
        dependencies: tuple[Dependency, ...],
        time: Time,
        *,
        max_sessions: int,
        max_storing: int = MAX_STORING,
    ) -> None:
        self._heartbeat = heartbeat
        self._dependencies = dependencies
        self._time = time
        self._max_sessions = max_sessions
        self._max_storing = max_storing
        self._listener: Listening | None = None
        self._is_draining = False
        self._changed_at = time()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The heart beats inside."""
        beating = asyncio.create_task(self._heartbeat.beat())
        try:
            yield
        finally:
            beating.cancel()
            for dependency in self._dependencies:
                dependency.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    def listening(self, listener: Listening) -> None:
        """All ports are bound."""
        self._listener = listener
        self._changed_at = self._time()

    def draining(self) -> None:
        """This process ends soon; no more connections, please."""
        self._is_draining = True
        self._changed_at = self._time()

    def live(self) -> Report:
        return Report({"event_loop": self._heartbeat.check()})

    async def ready(self) -> Report:
        answers = await asyncio.gather(*(dependency.check() for dependency in self._dependencies))
        return Report(
            {
                "event_loop": self._heartbeat.check(),
                "listener": self._listener_check(),
                "in_flight": self._in_flight_check(),
                **dict(zip((dependency.name for dependency in self._dependencies), answers, strict=True)),
            }
        )

    def _listener_check(self) -> Check:
        age = self._time() - self._changed_at
        if self._is_draining:
            return Check(ok=False, text="draining", age=age)
        if self._listener is None:
            return Check(ok=False, text="not listening yet", age=age)
        return Check(ok=True, text="listening", age=age)

    def _in_flight_check(self) -> Check:
        sessions = self._listener.sessions if self._listener else 0
        storing = self._listener.storing if self._listener else 0
        ok = sessions < self._max_sessions and storing < self._max_storing
        text = f"{sessions} of {self._max_sessions} sessions, {storing} of {self._max_storing} messages"
        return Check(ok, text, age=0)
