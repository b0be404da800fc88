"""The ports of a run: each call waits its turn, meets its fault, takes effect at one instant, and is noted.

`Gate.call` is the whole of it; the classes below and in the `gated_...` modules only name the calls. The
in-memory ports behind them never wait, so everything between two calls of one worker happens at once, and
every call is a place where any other worker may come in between.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Sequence,
)
from typing import Protocol, TypeVar

from empath.domain.content_policy import KeepDays
from empath.domain.errors import QueueTrouble, SpoolTrouble, TransientRefusal
from empath.domain.network import IPAddress
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.domain.reply import Reply
from empath.ports import (
    MailExchangers,
    OutgoingJob,
    QueueName,
    ReceivedJob,
    Resolver,
)
from empath.testing.memory_spool import MemorySpool
from empath.testing.simulation.faults import Fault, Faults
from empath.testing.simulation.history import History
from empath.testing.simulation.loop import SECOND, SimulationLoop
from empath.testing.simulation.process import SCOPE, Process, never
from empath.testing.simulation.queues import JobKey, SimulatedQueue, key_of

T = TypeVar("T")
Effect = Callable[[], Awaitable[T]]


class Watcher(Protocol):
    """What the invariants want to hear of, as it happens."""

    def stored(self, key: str) -> None: ...
    def deleted(self, key: str) -> None: ...
    def ledger_changed(self) -> None: ...
    def claimed(self, record: DeliveryRecord) -> None: ...


class Gate:
    """Through which every port call of every worker goes."""

    def __init__(
        self, loop: SimulationLoop, faults: Faults, history: History, crash: Callable[[Process], None]
    ) -> None:
        self.loop, self.faults, self.history = loop, faults, history
        self._crash = crash

    async def call(
        self,
        call: str,
        effect: Effect[T],
        *,
        trouble: Callable[[str], Exception] | None = None,
        partly: Callable[[float], Awaitable[object]] | None = None,
        about: object = "",
    ) -> T:
        """Make a call of the running job; `partly` does some of the effect, before trouble."""
        scope = SCOPE.get()
        process, loop = scope.process, self.loop
        latency, fault = self.faults.at_call(scope.label, call, loop.now)
        if fault is not None and fault.kind == "slow":
            latency += fault.slowness
        await process.pause(latency)
        if fault is not None:
            await self._strike(process, call, fault, "before")
            if fault.kind == "partial" and partly is not None and trouble is not None:
                self._note(scope.label, process, f"{call} {about} -> done in part, then trouble")
                await partly(fault.amount)
                raise trouble(f"simulated: {call} was done in part")
            if fault.kind == "trouble before" and trouble is not None:
                self._note(scope.label, process, f"{call} {about} -> trouble, nothing done")
                raise trouble(f"simulated: {call} did nothing")
        result = await effect()
        if self.history.on:
            self._note(scope.label, process, f"{call} {about} -> {brief(result)}")
        if fault is not None:
            await self._strike(process, call, fault, "after")
            if fault.kind == "trouble after" and trouble is not None:
                self._note(scope.label, process, f"{call} was done, but its answer is lost")
                raise trouble(f"simulated: {call} was done, its answer is lost")
        return result

    async def _strike(self, process: Process, call: str, fault: Fault, when: str) -> None:
        if fault.kind == f"crash {when}":
            self.history.note(self.loop.now, process.name, f"DIES {when} {call}")
            self._crash(process)
            await never(process)
        elif fault.kind == f"pause {when}":
            self.history.note(
                self.loop.now, process.name, f"PAUSES {when} {call} for {fault.pause / SECOND:.0f} s"
            )
            process.freeze(fault.pause)
            await process.pause(0)
            self.history.note(self.loop.now, process.name, "goes on")

    def _note(self, label: str, process: Process, text: str) -> None:
        self.history.note(self.loop.now, process.name, f"{label}: {text}")


def brief(result: object) -> str:
    """A call's result in a word or two."""
    match result:
        case None:
            return "ok"
        case bool() | int() | float():
            return str(result)
        case DeliveryRecord():
            return f"{result.status}, attempt {result.attempt}"
        case MessageRecord():
            return f"settled {len(result.settled)} of {result.deliveries}"
        case list() | tuple():
            return "[" + ", ".join(brief(part) for part in result[:4]) + "]"
        case ReceivedJob():
            return result.message_id
        case MailExchangers():
            return "[" + ", ".join(record.exchange or "." for record in result.records[:4]) + "]"
        case _:
            record = getattr(result, "record", None)
            return type(result).__name__ + (f" ({brief(record)})" if record is not None else "")


class GatedSpool:
    def __init__(self, gate: Gate, spool: MemorySpool, watcher: Watcher) -> None:
        self._gate, self._spool, self._watcher = gate, spool, watcher

    async def put(self, key: str, content: AsyncIterable[bytes]) -> int:
        async def effect() -> int:
            size = await self._spool.put(key, content)
            self._watcher.stored(key)
            return size

        return await self._gate.call("spool.put", effect, trouble=SpoolTrouble, about=key)

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        async def effect() -> list[bytes]:
            return [chunk async for chunk in self._spool.read(key)]

        chunks = await self._gate.call("spool.open", effect, trouble=SpoolTrouble, about=key)
        for chunk in chunks:

            async def given(chunk: bytes = chunk) -> bytes:
                return chunk

            yield await self._gate.call("spool.read", given, trouble=SpoolTrouble)

    async def keep(self, key: str, days: KeepDays) -> None:
        await self._gate.call(
            "spool.keep", lambda: self._spool.keep(key, days), trouble=SpoolTrouble, about=key
        )

    async def delete(self, key: str) -> None:
        async def effect() -> None:
            await self._spool.delete(key)
            self._watcher.deleted(key)

        await self._gate.call("spool.delete", effect, trouble=SpoolTrouble, about=key)


class GatedQueue:
    def __init__(self, gate: Gate, queue: SimulatedQueue, heals: Callable[[JobKey], bool]) -> None:
        """`heals` tells whether a job would be missed and sent again, should a queue lose it."""
        self._gate, self._queue, self._heals = gate, queue, heals

    async def send(self, queue: QueueName, jobs: Sequence[OutgoingJob]) -> None:
        if not jobs:
            return

        async def effect() -> None:
            now, faults = self._gate.loop.now, self._gate.faults
            label = SCOPE.get().label
            kept = list(jobs)
            if queue is QueueName.RETRY:
                kept = [
                    job
                    for job in jobs
                    if not self._heals(key_of(queue, job.body))
                    or not faults.once("lost", f"{label} to {queue}", now)
                ]
            await self._queue.send(queue, kept)
            for job in jobs:
                again = faults.once("duplicate", f"{label} to {queue}", now)
                if again is not None:
                    later = int((job.delay + again.amount**8 * 86_400) * SECOND)
                    self._gate.loop.after(
                        later,
                        lambda body=job.body: self._queue.duplicate(queue, body),
                    )

        async def partly(amount: float) -> None:
            await self._queue.send(queue, jobs[: int(amount * len(jobs))])

        about = f"{queue} x{len(jobs)} delay {jobs[0].delay}"
        await self._gate.call("queue.send", effect, trouble=QueueTrouble, partly=partly, about=about)

    async def hide(self, queue: QueueName, receipt: str, seconds: int) -> None:
        await self._gate.call(
            "queue.hide",
            lambda: self._queue.hide(queue, receipt, seconds),
            trouble=QueueTrouble,
            about=f"{seconds} s",
        )

    async def receive_dead(self, queue: QueueName, limit: int = 10) -> list[ReceivedJob]:
        if not self._queue.dead(queue):
            # The clock looks each time, as it does for empty shards of the listing.
            return []
        return await self._gate.call(
            "queue.receive_dead",
            lambda: self._queue.receive_dead(queue, limit),
            trouble=QueueTrouble,
            about=queue,
        )

    async def delete_dead(self, queue: QueueName, receipt: str) -> None:
        await self._gate.call(
            "queue.delete_dead", lambda: self._queue.delete_dead(queue, receipt), trouble=QueueTrouble
        )


def _dns_trouble(text: str) -> TransientRefusal:
    return TransientRefusal(Reply.of(451, "4.4.3", text), Reason.DNS_TROUBLE)


class GatedResolver:
    def __init__(self, gate: Gate, resolver: Resolver) -> None:
        self._gate, self._resolver = gate, resolver

    async def mail_exchangers(self, domain: str) -> MailExchangers:
        return await self._gate.call(
            "resolver.mx",
            lambda: self._resolver.mail_exchangers(domain),
            trouble=_dns_trouble,
            about=domain,
        )

    async def addresses(self, host: str) -> Sequence[IPAddress]:
        return await self._gate.call(
            "resolver.addresses", lambda: self._resolver.addresses(host), trouble=_dns_trouble, about=host
        )
