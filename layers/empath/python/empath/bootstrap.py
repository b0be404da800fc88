"""Where ports get their adapters, and nowhere else.

A process imports and opens only what is asked for: an adapter's room is imported in the function that makes
it, so `retry` never loads dnspython and `journal` no SMTP client (docs/decisions has the figures).

In Lambda one Runtime lives as long as the process: one event loop, the clients opened on it, and ports that
are made on first use. A door is

    runtime = functions_runtime()

    def handler(event, context):
        ports = runtime.ports
        stage = Journal(ports.spool, ports.ledger, ports.clock)
        return runtime.run(...)

Ports open by themselves while the loop stands still, as above; code that runs on the loop says
`await ports.open("spool", "ledger")` first.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from empath.config import ConfigError, FunctionConfig, IngressConfig
from empath.observe import tracing
from empath.observe.logging import configure
from empath.observe.metrics import EmfMetrics
from empath.system import SystemClock, UlidSource

if TYPE_CHECKING:
    from empath.aws.session import AwsSession
    from empath.aws.spool import S3Spool
    from empath.pipeline.accept import Acceptance
    from empath.ports import (
        Clock,
        Control,
        Dialer,
        IdSource,
        JobQueue,
        Ledger,
        Metrics,
        QueueName,
        Resolver,
        Spool,
    )

T = TypeVar("T")


class Ports:
    """The adapters of one process, each made when it is first asked for.

    Making one needs the event loop that it will work on. Raises ConfigError for a port whose settings the
    process was not given.
    """

    def __init__(
        self,
        config: FunctionConfig,
        *,
        metrics: Metrics,
        clock: Clock | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """With `loop` an attribute opens its port by itself as long as that loop stands still."""
        self.config = config
        self.metrics = metrics
        self.clock: Clock = clock or SystemClock()
        self.ids: IdSource = UlidSource()
        self._loop = loop
        self._session: AwsSession | None = None
        self._made: dict[str, Any] = {}

    @property
    def hostname(self) -> str:
        return self.config.need("hostname")

    @property
    def spool(self) -> Spool:
        made: Spool = self._get("spool")
        return made

    @property
    def queue(self) -> JobQueue:
        made: JobQueue = self._get("queue")
        return made

    @property
    def group_commit(self) -> JobQueue:
        """The queues for a process with many senders at a time; it opens the spool, too."""
        made: JobQueue = self._get("group_commit")
        return made

    @property
    def ledger(self) -> Ledger:
        made: Ledger = self._get("ledger")
        return made

    @property
    def control(self) -> Control:
        made: Control = self._get("control")
        return made

    @property
    def resolver(self) -> Resolver:
        made: Resolver = self._get("resolver")
        return made

    @property
    def dialer(self) -> Dialer:
        made: Dialer = self._get("dialer")
        return made

    async def open(self, *names: str) -> None:
        """Make ports by their attributes' names; those that are there already stay."""
        for name in names:
            if name not in self._made:
                self._made[name] = await self._make(name)

    async def close(self) -> None:
        """Close the AWS clients; ports open anew when asked for again."""
        self._made.clear()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _get(self, name: str) -> Any:
        if name not in self._made:
            if self._loop is None or self._loop.is_running():
                raise RuntimeError(f"port {name!r} is not open: await ports.open({name!r}) first")
            self._loop.run_until_complete(self.open(name))
        return self._made[name]

    async def _make(self, name: str) -> Any:
        config = self.config
        match name:
            case "spool":
                from empath.aws.spool import S3Spool

                bucket = config.need("spool_bucket")
                return S3Spool(await self._aws().s3(), bucket)
            case "queue":
                from empath.aws.queue import SqsJobQueue

                urls, dead_urls = _queue_urls(config)
                return SqsJobQueue(await self._aws().sqs(), urls, dead_urls)
            case "group_commit":
                from empath.aws.group_commit import GroupCommit

                urls, dead_urls = _queue_urls(config)
                await self.open("spool")
                spool: S3Spool = self._made["spool"]
                return GroupCommit(
                    await self._aws().sqs(), urls, dead_urls, on_the_way=lambda: spool.completing
                )
            case "ledger":
                from empath.aws.ledger import DynamoLedger

                table = config.need("deliveries_table")
                return DynamoLedger(await self._aws().dynamodb(), table)
            case "control":
                from empath.aws.control import DynamoControl

                table = config.need("control_table")
                client = await self._aws().dynamodb()
                return DynamoControl(client, table, clock=self.clock, metrics=self.metrics)
            case "resolver":
                from empath.net.resolver import DnsResolver

                return DnsResolver(config.nameservers)
            case "dialer":
                from empath.net.dialer import SmtpDialer

                return SmtpDialer(config.need("hostname"))
        raise ValueError(f"no port is called {name!r}")

    def _aws(self) -> AwsSession:
        if self._session is None:
            from empath.aws.session import AwsSession

            self._session = AwsSession()
        return self._session


def _queue_urls(config: FunctionConfig) -> tuple[Mapping[QueueName, str], Mapping[QueueName, str]]:
    if not config.queue_urls:
        raise ConfigError("no queue is named: EMPATH_ACCEPTED_QUEUE_URL and its like are not set")
    return config.queue_urls, config.dead_letter_queue_urls


class Runtime:
    """What a Lambda process keeps between invocations."""

    def __init__(self, config: FunctionConfig) -> None:
        self.config = config
        self.metrics = EmfMetrics(config.function)
        self._loop = asyncio.new_event_loop()
        self.ports = Ports(config, metrics=self.metrics, loop=self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run an invocation's work to its end, and write its counters, whatever the end."""
        try:
            return self._loop.run_until_complete(work)
        finally:
            self.metrics.flush()

    def close(self) -> None:
        """For tests: Lambda ends a process without asking."""
        self._loop.run_until_complete(self.ports.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def functions_runtime(environ: Mapping[str, str] | None = None) -> Runtime:
    """Logging, tracing and a Runtime as the environment says; once, when a door's module is imported.

    Raises ConfigError, which ends the initialisation with the name of the variable in the log.
    """
    config = FunctionConfig.from_environment(os.environ if environ is None else environ)
    configure(config.function, config.log_level)
    tracing.configure(config.tracing == "on")
    return Runtime(config)


@dataclass(frozen=True, slots=True)
class IngressParts:
    """What the ingress is put together from."""

    acceptance: Acceptance
    clock: Clock
    ids: IdSource
    metrics: Metrics


@asynccontextmanager
async def open_ingress(config: IngressConfig) -> AsyncIterator[IngressParts]:
    """Logging, tracing and the ingress's parts; counters are written every few seconds, and at the end."""
    from empath.pipeline.accept import Acceptance

    configure("ingress", config.log_level)
    tracing.configure(config.tracing == "on")
    metrics = EmfMetrics("ingress")
    settings = FunctionConfig.model_validate(
        {
            "EMPATH_SPOOL_BUCKET": config.spool_bucket,
            "EMPATH_ACCEPTED_QUEUE_URL": config.accepted_queue_url,
            "EMPATH_HOSTNAME": config.hostname,
        }
    )
    ports = Ports(settings, metrics=metrics)
    try:
        await ports.open("spool", "group_commit")
        flushing = asyncio.create_task(metrics.flush_forever(ports.clock))
        try:
            yield IngressParts(Acceptance(ports.spool, ports.group_commit), ports.clock, ports.ids, metrics)
        finally:
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)
            metrics.flush()  # a task that is cancelled before its first step writes nothing
    finally:
        await ports.close()
