"""The routes of a relay in memory: what needs nothing but a dialer, a resolver and secrets."""

from __future__ import annotations

from empath.pipeline.dead_hosts import DeadHosts
from empath.pipeline.mail_hosts import ToExchangers
from empath.pipeline.named_hosts import ToSmarthost, ToStore
from empath.pipeline.routes import MakeRoute, RouteTable, ToNowhere
from empath.pipeline.secret_memory import SecretMemory
from empath.ports import Clock, Dialer, IdSource, Resolver, Route, Secrets
from empath.testing.memory_secrets import MemorySecrets


def memory_routes(
    *,
    resolver: Resolver,
    dialer: Dialer,
    clock: Clock,
    ids: IdSource,
    hostname: str,
    secrets: Secrets | None = None,
    dead: DeadHosts | None = None,
) -> RouteTable:
    known = SecretMemory(secrets or MemorySecrets(), clock)
    return RouteTable(
        {
            "mx": _made(ToExchangers(resolver, dialer, ids, hostname, dead=dead)),
            "smarthost": _made(ToSmarthost(resolver, dialer, ids, known, dead)),
            "lmtp": _made(ToStore(resolver, dialer, ids, dead)),
            "sink": _made(ToNowhere()),
        }
    )


def _made(route: Route) -> MakeRoute:
    async def make() -> Route:
        return route

    return make
