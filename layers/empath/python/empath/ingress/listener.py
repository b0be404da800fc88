"""Listening sockets and their sessions, from `serve` to `close`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from empath.ingress.connection import Connection
from empath.ingress.connections import Connections
from empath.ingress.services import Services
from empath.ingress.settings import IngressSettings, PortKind
from empath.ingress.sockets import SETTINGS
from empath.ingress.sockets import ListenError as ListenError
from empath.pipeline.accept import Acceptance
from empath.ports import Clock, IdSource, Metrics

logger = logging.getLogger(__name__)

BACKLOG = 1024
LAST_WORDS = 1.0
"""Seconds that a session gets to send its 421 once the grace is over."""


async def serve(
    settings: IngressSettings, acceptance: Acceptance, clock: Clock, ids: IdSource, metrics: Metrics
) -> Listener:
    """Listen; accepts connections on return. Raises ListenError when an address cannot be had."""
    services = Services.of(settings, acceptance, clock, ids, metrics)
    connections: Connections[Connection] = Connections(
        settings.max_connections, settings.max_connections_per_client
    )
    servers: dict[PortKind, asyncio.Server] = {}
    try:
        for kind, number in settings.ports.items():
            make = partial(Connection, services, kind, connections)
            servers[kind] = await _listen(settings, kind, number, make)
    except ListenError:
        for server in servers.values():
            server.close()
        raise
    listener = Listener(servers, services, connections)
    for kind, number in listener.ports.items():
        logger.info("listening on %s port %d for %s", settings.host, number, kind.value)
    return listener


async def _listen(
    settings: IngressSettings, kind: PortKind, port: int, make: partial[Connection]
) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(
            make, settings.host, port, backlog=BACKLOG, reuse_port=settings.reuse_port or None
        )
    except OSError as error:
        raise ListenError.of(error, settings.host, port, SETTINGS[kind]) from error


class Listener:
    def __init__(
        self,
        servers: Mapping[PortKind, asyncio.Server],
        services: Services,
        connections: Connections[Connection],
    ) -> None:
        self._servers = servers
        self._services = services
        self._connections = connections
        self.ports = {kind: int(server.sockets[0].getsockname()[1]) for kind, server in servers.items()}
        """The numbers of the open ports."""

    @property
    def port(self) -> int:
        """The relay port's number."""
        return self.ports[PortKind.RELAY]

    @property
    def sessions(self) -> int:
        return len(self._connections)

    @property
    def storing(self) -> int:
        """How many messages are on their way into the spool and the queue."""
        return len(self._services.storing)

    async def close(self, grace: float | None = None) -> None:
        """Stop listening and end every session: at once between transactions, inside of one when it
        is over or after `grace` seconds (None: as set), with 421 4.3.2 in all cases."""
        for server in self._servers.values():
            server.close()
        for connection in self._connections:
            connection.drain()
        seconds = self._services.settings.shutdown_grace if grace is None else grace
        if not await self._all_gone(seconds):
            for connection in self._connections:
                connection.end_now()
            if not await self._all_gone(LAST_WORDS):
                for connection in self._connections:
                    connection.abort()
        # A message that is complete is stored although its client has left; here is the end of that.
        storing = tuple(self._services.storing)
        if storing:
            _, late = await asyncio.wait(storing, timeout=LAST_WORDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for server in self._servers.values():
            await server.wait_closed()

    async def _all_gone(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._connections.none_left()
        except TimeoutError:
            return False
        return True
