"""An event loop whose time is a number and whose order is a rule: the stages run on it unchanged.

It offers what asyncio's own tasks, futures and `gather` ask of a loop, and nothing that touches the machine:
no sockets, no threads, no wall clock. What is ready runs first in, first out; when nothing is ready, time
jumps to the next event, and events of the same microsecond come in the order in which they were asked for.
So a run depends on what is asked of the loop alone, and weeks pass in seconds.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, cast

SECOND = 1_000_000
"""Virtual time is a whole number of microseconds."""

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

Callback = Callable[..., Any]
RunsAt = Callable[[Context], int | None]


class Timer:
    """What `call_later` gives back."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class SimulationLoop:
    """Runs callbacks in virtual time until nothing is left, `stop` is called or `until` has come.

    `runs_at` tells when code of a context may run: at once (a time that is past), later, or never.
    """

    def __init__(self, runs_at: RunsAt) -> None:
        self._runs_at = runs_at
        self.now = 0
        self.steps = 0
        self._ready: deque[tuple[Context, Callback, tuple[Any, ...]]] = deque()
        self._events: list[tuple[int, int, Callback]] = []
        self._order = itertools.count()
        self._stopped = False
        self._closed = False

    # What the simulation uses.

    def at(self, when: int, callback: Callback) -> None:
        """Call back at a point in virtual time (now, when it is past)."""
        heapq.heappush(self._events, (max(when, self.now), next(self._order), callback))

    def after(self, delay: int, callback: Callback) -> None:
        """Call back after `delay` microseconds."""
        heapq.heappush(self._events, (self.now + delay, next(self._order), callback))

    def run(self, *, until: int, finished: Callable[[], bool]) -> None:
        """Run event by event; `finished` is asked after each. Time ends at `until`, if not before."""
        ready, events = self._ready, self._events
        asyncio._set_running_loop(self.as_asyncio)
        hooks = sys.get_asyncgen_hooks()
        # A generator that its dead reader leaves is dead as well: nobody closes it.
        sys.set_asyncgen_hooks(finalizer=lambda generator: None)
        try:
            while not self._stopped:
                while ready:
                    context, callback, arguments = ready.popleft()
                    context.run(callback, *arguments)
                if self._stopped or not events or finished():
                    return
                if events[0][0] > until:
                    self.now = until
                    return
                self.now, _, callback = heapq.heappop(events)
                self.steps += 1
                callback()
        finally:
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(None)

    # What asyncio uses. Its abstract class would bring dozens of methods that nobody calls here.

    @property
    def as_asyncio(self) -> asyncio.AbstractEventLoop:
        return cast(asyncio.AbstractEventLoop, self)

    def call_soon(self, callback: Callback, *args: Any, context: Context | None = None) -> Any:
        # A task that nobody will resume is closed by the garbage collector, after the loop: no echo then.
        if not self._closed:
            self._ready.append((context if context is not None else copy_context(), callback, args))
        return None

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self.as_asyncio)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self.as_asyncio, name=name, context=context)

    def call_later(
        self, delay: float, callback: Callback, *args: Any, context: Context | None = None
    ) -> Timer:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callback, *args: Any, context: Context | None = None) -> Timer:
        timer = Timer()
        ours = context if context is not None else copy_context()

        def fire() -> None:
            may_run = self._runs_at(ours)
            if timer.is_cancelled or may_run is None:
                return
            if may_run > self.now:
                self.at(may_run, fire)
            else:
                ours.run(callback, *args)

        self.at(round(when * SECOND), fire)
        return timer

    def time(self) -> float:
        return self.now / SECOND

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tasks of a process that died are destroyed while they wait: that is what death is."""

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._events.clear()
