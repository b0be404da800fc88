"""Calls hooks so that nothing they do can hurt: not an error, not nonsense, not time, not a lost thread.

Coroutines run on the loop, plain functions in threads of their own, of which there is a fixed number. A
hook that raises, returns nonsense or takes too long is answered for with 451, logged by name and counted as
`hook_failed`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from empath.domain.address import Mailbox
from empath.domain.envelope import Metadata, Recipient, Source
from empath.domain.reply import Reply
from empath.ingress import replies
from empath.ingress.hooks import Message, Session
from empath.ingress.hooks_verdict import BrokenHook, Decision
from empath.ports import Metrics

logger = logging.getLogger(__name__)

TIME_LIMIT = 5.0
"""Seconds for one hook, waiting for a thread included. A client waits five minutes for a reply."""

THREADS = 16
"""Plain functions that run at a time. They should wait for nothing long; who does is a coroutine."""

MAX_LEFT_BEHIND = 100
"""Coroutines that go on although they were cancelled."""


@dataclass(frozen=True, slots=True)
class Hook:
    name: str
    """`module.function`, for logs."""
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    """Those that it wants."""
    is_coroutine: bool


class Hooks:
    """All hooks of a process, by what they are called at. For one event loop."""

    def __init__(
        self, hooks: Mapping[str, Sequence[Hook]], *, time_limit: float = TIME_LIMIT, threads: int = THREADS
    ) -> None:
        self._hooks = {name: tuple(some) for name, some in hooks.items() if some}
        self._time_limit = time_limit
        self._threads = threads
        self._free = asyncio.Semaphore(threads)
        self._lost = 0  # threads that nobody waits for any more
        self._left_behind: set[asyncio.Task[_Outcome]] = set()

    def has(self, name: str) -> bool:
        return name in self._hooks

    async def run(
        self, name: str, session: Session, arguments: Mapping[str, object], metrics: Metrics
    ) -> Decision:
        """Call the hooks of `name` one after the other, up to the first that refuses. Never raises."""
        decision = Decision(metadata=dict(session.metadata))
        for hook in self._hooks.get(name, ()):
            view = replace(session, metadata=deepcopy(decision.metadata))
            try:
                returned = await self._call(hook, {"session": view, **arguments})
                decision = _joined(decision, returned, adds=name == "message")
            except BrokenHook as broken:
                fields = {"hook": hook.name, "client": session.client}
                logger.error("hook failed: %s", broken, exc_info=broken.__cause__, extra=fields)
                metrics.count("hook_failed")
                return Decision(reply=replies.TROUBLE)
            if decision.reply is not None:
                fields = {"hook": hook.name, "client": session.client, "reply": str(decision.reply)}
                logger.info("refused by a hook", extra=fields)
                return decision
        return decision

    async def _call(self, hook: Hook, given: Mapping[str, object]) -> object:
        """What the hook returned. Raises BrokenHook."""
        if self._lost >= self._threads or len(self._left_behind) >= MAX_LEFT_BEHIND:
            raise BrokenHook("not called: too many earlier calls have not come back yet")
        arguments = {name: given[name] for name in hook.arguments}
        call = hook.function if hook.is_coroutine else self._in_a_thread(hook)
        task = asyncio.get_running_loop().create_task(_outcome(call, arguments))
        try:
            await asyncio.wait((task,), timeout=self._time_limit)
        finally:
            if not task.done():  # it is too slow, or the session has ended
                task.cancel()
                self._left_behind.add(task)
                task.add_done_callback(self._left_behind.discard)
        if not task.done():
            raise BrokenHook(f"took longer than {self._time_limit:g} s")
        if task.cancelled():
            raise BrokenHook("cancelled itself")
        outcome = task.result()
        if outcome.error is not None:
            raise BrokenHook(f"raised {type(outcome.error).__name__}") from outcome.error
        return outcome.value

    def _in_a_thread(self, hook: Hook) -> Callable[..., Awaitable[object]]:
        """Run a plain function in a thread. Not in an executor's: Python waits for those when it ends, and
        for one that never returns forever."""

        async def call(**arguments: object) -> object:
            await self._free.acquire()
            loop = asyncio.get_running_loop()
            back: asyncio.Future[_Outcome] = loop.create_future()

            def come_back(outcome: _Outcome) -> None:
                self._free.release()
                if back.cancelled():
                    self._lost -= 1
                else:
                    back.set_result(outcome)

            def work() -> None:
                try:
                    outcome = _Outcome(value=hook.function(**arguments))
                except BaseException as error:  # noqa: BLE001 (handed to who waits, whatever it is)
                    outcome = _Outcome(error=error)
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(come_back, outcome)

            context = contextvars.copy_context()
            try:
                threading.Thread(target=context.run, args=(work,), name=hook.name, daemon=True).start()
            except RuntimeError:  # the system has no more threads
                self._free.release()
                raise
            try:
                outcome = await back
            except asyncio.CancelledError:
                self._lost += back.cancelled()  # or it has come back in this very moment
                raise
            if outcome.error is not None:
                raise _Raised from outcome.error
            return outcome.value

        return call


def _joined(decision: Decision, returned: object, *, adds: bool) -> Decision:
    try:
        return decision.joined_by(returned, adds=adds)
    except BrokenHook:
        raise
    except Exception as error:  # a verdict can hold anything, which can raise anything when it is looked at
        raise BrokenHook("returned a Verdict with something in it that cannot be read") from error


class _Raised(Exception):
    """Carries what a plain function raised, for StopIteration cannot cross a coroutine by itself."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: object = None
    error: BaseException | None = None


async def _outcome(call: Callable[..., Awaitable[object]], arguments: Mapping[str, object]) -> _Outcome:
    try:
        return _Outcome(value=await call(**arguments))
    except _Raised as raised:
        return _Outcome(error=raised.__cause__)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (logged by who waits; sys.exit would end the loop)
        return _Outcome(error=error)


class SessionHooks:
    """The hooks of one session, and the metadata that they have set."""

    __slots__ = ("_hooks", "_metrics", "_of_helo", "_of_session", "_of_transaction", "_submission")

    def __init__(self, hooks: Hooks, metrics: Metrics, *, submission: bool = False) -> None:
        self._hooks = hooks
        self._metrics = metrics
        self._submission = submission
        self._of_session: Metadata = {}
        self._of_helo: Metadata = {}
        self._of_transaction: Metadata = {}

    def has(self, name: str) -> bool:
        """Whether there is anything to call; if not, no task has to be made for it."""
        return self._hooks.has(name)

    @property
    def metadata(self) -> Metadata:
        """All that is set by now, for the message that begins."""
        return self._of_session | self._of_helo | self._of_transaction

    async def connect(self, source: Source) -> Reply | None:
        """The refusal, if there is one; so for the next three."""
        decision = await self._ask("connect", source, self._of_session, {})
        if decision.reply is None:
            self._of_session = decision.metadata
        return decision.reply

    async def helo(self, source: Source, name: str) -> Reply | None:
        """Ends the transaction, as EHLO does, and forgets what an earlier EHLO (before TLS, say) has set."""
        self._of_helo, self._of_transaction = {}, {}
        decision = await self._ask("helo", source, self._of_session, {"name": name})
        if decision.reply is None:
            self._of_helo = decision.metadata
        return decision.reply

    def transaction_begins(self) -> None:
        """Forget what an earlier transaction has set. For every MAIL, whether `mail` has hooks or not."""
        self._of_transaction = {}

    async def mail(self, source: Source, reverse_path: Mailbox | None) -> Reply | None:
        return await self._in_transaction("mail", source, {"reverse_path": reverse_path})

    async def rcpt(self, source: Source, reverse_path: Mailbox | None, recipient: Recipient) -> Reply | None:
        arguments = {"reverse_path": reverse_path, "recipient": recipient}
        return await self._in_transaction("rcpt", source, arguments)

    async def message(self, source: Source, metadata: Metadata, message: Message) -> Decision:
        """`metadata` is what it was when the message began."""
        return await self._ask("message", source, metadata, {"message": message})

    async def _in_transaction(
        self, name: str, source: Source, arguments: Mapping[str, object]
    ) -> Reply | None:
        decision = await self._ask(name, source, self.metadata, arguments)
        if decision.reply is None:
            self._of_transaction = decision.metadata
        return decision.reply

    async def _ask(
        self, name: str, source: Source, metadata: Metadata, arguments: Mapping[str, object]
    ) -> Decision:
        session = Session(
            client=source.client,
            helo=source.helo,
            tls=source.tls,
            user=source.user,
            submission=self._submission,
            metadata=metadata,
        )
        return await self._hooks.run(name, session, arguments, self._metrics)
