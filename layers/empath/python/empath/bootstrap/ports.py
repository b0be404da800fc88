"""The adapters of one process, each made when it is first asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from empath.bootstrap.collector import collector_at_rest
from empath.config.environment import ConfigError
from empath.config.functions import FunctionConfig
from empath.domain.network import IPNetwork
from empath.domain.redaction import Redaction
from empath.pipeline.dead_hosts import DeadHosts
from empath.system import SystemClock, UlidSource

if TYPE_CHECKING:
    from empath.aws.group_commit import GroupCommit
    from empath.aws.session import AwsSession
    from empath.aws.spool import S3Spool
    from empath.net.pool import ConnectionPool
    from empath.pipeline.gates import Gatekeeper
    from empath.pipeline.slow_sites import SlowSites
    from empath.ports import (
        Audit,
        Clock,
        Control,
        Dialer,
        DnsCache,
        Events,
        IdSource,
        JobQueue,
        Ledger,
        Metrics,
        QueueName,
        Quotas,
        Resolver,
        Routes,
        Secrets,
        Spool,
        Suppressions,
        Users,
    )

SENDING_TOGETHER = frozenset({"resolve"})
"""Functions each of whose jobs makes another one, at about the same moment as the others of its batch: they
share requests."""


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
        self.dead_hosts = DeadHosts(self.clock)
        self.in_hand = 0
        """Jobs of the batch under way that are not done; a door keeps count."""
        self._loop = loop
        self._session: AwsSession | None = None
        self._made: dict[str, Any] = {}

    @property
    def hostname(self) -> str:
        return self.config.need("hostname")

    @property
    def own_addresses(self) -> tuple[IPNetwork, ...]:
        return self.config.own_addresses

    @property
    def spool(self) -> Spool:
        made: Spool = self._get("spool")
        return made

    @property
    def queue(self) -> JobQueue:
        made: JobQueue = self._get("queue")
        return made

    @property
    def group_commit(self) -> GroupCommit:
        """The queues for a process with many senders at a time; it opens the spool, too."""
        made: GroupCommit = self._get("group_commit")
        return made

    @property
    def users(self) -> Users:
        made: Users = self._get("users")
        return made

    @property
    def quotas(self) -> Quotas:
        made: Quotas = self._get("quotas")
        return made

    @property
    def secrets(self) -> Secrets:
        made: Secrets = self._get("secrets")
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
    def gatekeeper(self) -> Gatekeeper:
        """What this process knows of the gates; it lives as long as the process."""
        made: Gatekeeper = self._get("gatekeeper")
        return made

    @property
    def slow_sites(self) -> SlowSites:
        """What this process knows of how quickly sites take mail."""
        made: SlowSites = self._get("slow_sites")
        return made

    @property
    def resolver(self) -> Resolver:
        made: Resolver = self._get("resolver")
        return made

    @property
    def dialer(self) -> Dialer:
        made: Dialer = self._get("dialer")
        return made

    async def ses(self, region: str | None) -> Any:
        """The SES client of a region; None is the process's own."""
        return await self._aws().sesv2(region)

    @property
    def routes(self) -> Routes:
        made: Routes = self._get("routes")
        return made

    @property
    def audit(self) -> Audit | None:
        made: Audit | None = self._get("audit")
        return made

    @property
    def events(self) -> Events | None:
        made: Events | None = self._get("events")
        return made

    @property
    def suppressions(self) -> Suppressions | None:
        made: Suppressions | None = self._get("suppressions")
        return made

    @property
    def event_types(self) -> tuple[str, ...]:
        return self.config.event_types

    @property
    def redaction(self) -> Redaction:
        return Redaction.of(self.config.redact)

    async def open(self, *names: str) -> None:
        """Make ports by their attributes' names; those that are there already stay."""
        for name in names:
            if name not in self._made:
                with collector_at_rest():
                    self._made[name] = await self._make(name)

    async def close(self) -> None:
        """Close connections and AWS clients; ports open anew when asked for again."""
        pool: ConnectionPool | None = self._made.get("dialer")
        self._made.clear()
        if pool is not None:
            await pool.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _close_idle(self, site: str) -> None:
        pool: ConnectionPool | None = self._made.get("dialer")
        if pool is not None:
            await pool.close_idle(site)

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
                from empath.aws.quick_put import QuickPut
                from empath.aws.spool import S3Spool

                bucket, s3 = config.need("spool_bucket"), await self._aws().s3()
                return S3Spool(s3, bucket, QuickPut(s3, bucket))
            case "queue" | "group_commit":
                return await self._make_queue(name)
            case "ledger":
                from empath.aws.ledger import DynamoLedger

                table = config.need("deliveries_table")
                return DynamoLedger(await self._aws().dynamodb(), table)
            case "control" | "users" | "quotas" | "gatekeeper" | "slow_sites" | "dns_cache":
                return await self._make_of_control(name, config.need("control_table"))
            case "audit" | "events" | "suppressions":
                return await self._make_of_journal(name)
            case "secrets":
                from empath.aws.secrets import SecretsManagerSecrets

                return SecretsManagerSecrets(await self._aws().secretsmanager())
            case "resolver":
                from empath.net.resolver import DnsResolver

                sharing: Literal["both", "none"] = "both" if config.dns_cache == "shared" else "none"
                cache: DnsCache | None = None
                if config.control_table is not None:
                    await self.open("dns_cache")
                    cache = self._made["dns_cache"]
                return DnsResolver(config.nameservers, cache=cache, sharing=sharing, now=self.clock.now)
            case "dialer":
                from empath.net.dialer import SmtpDialer
                from empath.net.pool import ConnectionPool

                dialer = SmtpDialer(config.need("hostname"), metrics=self.metrics)
                return ConnectionPool(dialer, self.clock, self.metrics)
            case "routes":
                from empath.bootstrap.routes import route_table

                return route_table(self)
        raise ValueError(f"no port is called {name!r}")

    async def _make_queue(self, name: str) -> Any:
        urls, dead_urls = _queue_urls(self.config)
        if name == "queue" and self.config.function not in SENDING_TOGETHER:
            from empath.aws.queue import SqsJobQueue

            return SqsJobQueue(await self._aws().sqs(), urls, dead_urls)
        from empath.aws.group_commit import GroupCommit

        if name == "group_commit":
            await self.open("spool")
        spool: S3Spool | None = self._made.get("spool")

        def on_the_way() -> int:
            if name == "queue":
                return self.in_hand - commit.senders
            return spool.completing if spool is not None else 0

        commit = GroupCommit(await self._aws().sqs(), urls, dead_urls, on_the_way=on_the_way)
        return commit

    async def _make_of_journal(self, name: str) -> Any:
        """None for what this deployment does without."""
        config = self.config
        if name == "suppressions":
            if config.suppression == "off":
                return None
            from empath.aws.suppressions import DynamoSuppressions

            return DynamoSuppressions(await self._aws().dynamodb(), config.need("control_table"))
        if name == "events":
            if config.event_bus is None or not config.event_types:
                return None
            from empath.aws.events import BridgeEvents

            return BridgeEvents(await self._aws().events(), config.event_bus)
        if config.audit_bucket is None:
            return None
        from empath.aws.audit import S3Audit

        table, dynamodb = config.need("control_table"), await self._aws().dynamodb()
        return S3Audit(await self._aws().s3(), config.audit_bucket, dynamodb, table)

    async def _make_of_control(self, name: str, table: str) -> Any:
        client = await self._aws().dynamodb()
        match name:
            case "control":
                from empath.aws.control import DynamoControl

                return DynamoControl(client, table, clock=self.clock, metrics=self.metrics)
            case "users":
                from empath.aws.users import DynamoUsers

                return DynamoUsers(client, table, clock=self.clock, metrics=self.metrics)
            case "quotas":
                from empath.aws.quotas import DynamoQuotas

                return DynamoQuotas(client, table)
            case "gatekeeper":
                from empath.aws.gates import DynamoGates
                from empath.pipeline.gates import Gatekeeper

                gates = DynamoGates(client, table, clock=self.clock)
                return Gatekeeper(gates, self.clock, self.ids, self.metrics, self._close_idle)
            case "slow_sites":
                from empath.aws.trials import DynamoTrials
                from empath.pipeline.slow_sites import SlowSites

                return SlowSites(DynamoTrials(client, table), self.clock, self.metrics)
        from empath.aws.dns_cache import DynamoDnsCache

        return DynamoDnsCache(client, table, clock=self.clock, metrics=self.metrics)

    def _aws(self) -> AwsSession:
        if self._session is None:
            from empath.aws.session import AwsSession

            self._session = AwsSession()
        return self._session


def _queue_urls(config: FunctionConfig) -> tuple[Mapping[QueueName, str], Mapping[QueueName, str]]:
    if not config.queue_urls:
        raise ConfigError("no queue is named: EMPATH_ACCEPTED_QUEUE_URL and its like are not set")
    return config.queue_urls, config.dead_letter_queue_urls
