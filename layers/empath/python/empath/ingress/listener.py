"""A listening socket and its sessions, from `serve` to `close`."""

from __future__ import annotations

import asyncio
import errno
import logging

from empath.domain.errors import EmpathError
from empath.ingress.connection import Connection
from empath.ingress.connections import Connections
from empath.ingress.services import Services
from empath.ingress.settings import IngressSettings
from empath.pipeline.accept import Acceptance
from empath.ports import Clock, IdSource, Metrics

logger = logging.getLogger(__name__)

BACKLOG = 1024
LAST_WORDS = 1.0
"""Seconds that a session gets to send its 421 once the grace is over."""


class ListenError(EmpathError):
    """The address that is to be listened on cannot be had; the text names it and says why."""


async def serve(
    settings: IngressSettings, acceptance: Acceptance, clock: Clock, ids: IdSource, metrics: Metrics
) -> Listener:
    """Listen; accepts connections on return. Raises ListenError when the address cannot be had."""
    services = Services.of(settings, acceptance, clock, ids, metrics)
    connections: Connections[Connection] = Connections(
        settings.max_connections, settings.max_connections_per_client
    )
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(services, connections), settings.host, settings.port, backlog=BACKLOG
        )
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise ListenError(f"cannot listen on {settings.host} port {settings.port}: {reason}") from error
    listener = Listener(server, services, connections)
    logger.info("listening on %s port %d", settings.host, listener.port)
    return listener


class Listener:
    def __init__(
        self, server: asyncio.AbstractServer, services: Services, connections: Connections[Connection]
    ) -> None:
        self._server = server
        self._services = services
        self._connections = connections
        self.port = int(server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]

    @property
    def sessions(self) -> int:
        return len(self._connections)

    async def close(self, grace: float | None = None) -> None:
        """Stop listening and end every session: at once between transactions, inside of one when it
        is over or after `grace` seconds (None: as set), with 421 4.3.2 in all cases."""
        self._server.close()
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
        await self._server.wait_closed()

    async def _all_gone(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._connections.none_left()
        except TimeoutError:
            return False
        return True
