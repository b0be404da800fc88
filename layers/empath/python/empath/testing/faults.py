"""Faults on request: a port whose chosen calls fail before or after they took effect.

    faults = Faults()
    queue = faults.wrap("queue", MemoryJobQueue(clock), QueueTrouble)
    faults.fail("queue.send", when=AFTER)     # the next send takes effect and then raises
    faults.fail("queue.send", after_calls=2)  # two go well, the third raises and does nothing

"After" is the fault that matters most: the store did it, and the caller was told that it may not have.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from empath.domain.errors import Trouble

Port = TypeVar("Port")
When = Literal["before", "after"]
BEFORE: When = "before"
AFTER: When = "after"


class WorkerDied(BaseException):
    """A worker's death in the middle of a call, for `Faults.fail(error=...)`."""


@dataclass(slots=True)
class _Rule:
    call: str
    when: When
    times: int | None
    after_calls: int
    error: BaseException | None
    matching: Callable[..., bool] | None


@dataclass
class Faults:
    """Rules about which calls fail, and a log of every call that was made (`port.method`)."""

    calls: list[str] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)

    def fail(
        self,
        call: str,
        *,
        when: When = BEFORE,
        times: int | None = 1,
        after_calls: int = 0,
        error: BaseException | None = None,
        matching: Callable[..., bool] | None = None,
    ) -> None:
        """Let `port.method` fail `times` times (None: always) once `after_calls` calls went well.

        `matching` is asked with the call's arguments; calls that it turns down are not counted. `error`
        stands in for the Trouble that the port was wrapped with.
        """
        self._rules.append(_Rule(call, when, times, after_calls, error, matching))

    def heal(self) -> None:
        """From now on every call goes well."""
        self._rules.clear()

    def wrap(self, name: str, port: Port, trouble: type[Trouble]) -> Port:
        """The same port with faults in front of it."""
        return _Faulty(self, name, port, trouble)  # type: ignore[return-value]

    def matched(
        self, call: str, trouble: type[Trouble], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[When, BaseException] | None:
        """Log a call and tell whether it fails, and how."""
        self.calls.append(call)
        for rule in self._rules:
            if rule.call != call or (rule.matching is not None and not rule.matching(*args, **kwargs)):
                continue
            if rule.after_calls > 0:
                rule.after_calls -= 1
                continue
            if rule.times is not None:
                rule.times -= 1
                if rule.times <= 0:
                    self._rules.remove(rule)
            return rule.when, rule.error or trouble(f"injected {rule.when} {call}")
        return None


class _Faulty:
    def __init__(self, faults: Faults, name: str, port: Any, trouble: type[Trouble]) -> None:
        self._faults, self._name, self._port, self._trouble = faults, name, port, trouble

    def __getattr__(self, attribute: str) -> Any:
        target = getattr(self._port, attribute)
        call = f"{self._name}.{attribute}"
        if inspect.iscoroutinefunction(target):
            return self._coroutine(call, target)
        if inspect.isasyncgenfunction(target):
            return self._stream(call, target)
        return target

    def _coroutine(self, call: str, target: Callable[..., Any]) -> Callable[..., Any]:
        async def faulty(*args: Any, **kwargs: Any) -> Any:
            fault = self._faults.matched(call, self._trouble, args, kwargs)
            if fault is not None and fault[0] == BEFORE:
                raise fault[1]
            result = await target(*args, **kwargs)
            if fault is not None:
                raise fault[1]
            return result

        return faulty

    def _stream(self, call: str, target: Callable[..., Any]) -> Callable[..., Any]:
        # "After" in a stream is after its first chunk: the reader has something and gets no more.
        async def faulty(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            fault = self._faults.matched(call, self._trouble, args, kwargs)
            if fault is not None and fault[0] == BEFORE:
                raise fault[1]
            async for chunk in target(*args, **kwargs):
                yield chunk
                if fault is not None:
                    raise fault[1]

        return faulty
