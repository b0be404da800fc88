"""`GET /health/live` and `GET /health/ready` on a port of their own: 200 or 503, with the report as JSON.

aiohttp's server, for its client is here anyway (aiobotocore) and the import adds 36 ms of CPU and 1.8 MiB
to a process that has it. Its limits hold for lines, fields and their number; what it has no limit for, a
connection's life and how many there are, is bounded here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from empath.ingress import sockets
from empath.ingress.health import HasHealth, Report
from empath.ingress.proxy import SIGNATURE, ProxyFault, ProxyReader
from empath.ingress.sockets import ListenError

MAX_CONNECTIONS = 64
CONNECTION_LIFE = 15.0
"""Seconds. A load balancer opens a connection for each check and is done within its own timeout."""

MAX_LINE = 1024
MAX_FIELD = 2048
MAX_FIELDS = 32

SETTING = "EMPATH_HEALTH_PORT"


@asynccontextmanager
async def serving_health(health: HasHealth, host: str, port: int) -> AsyncIterator[int]:
    """The health port, for the length of a block; its number. Raises ListenError when it cannot be had."""
    bound = sockets.bind(host, port, SETTING)
    runner = web.AppRunner(
        _application(health),
        access_log=None,
        keepalive_timeout=CONNECTION_LIFE,
        lingering_time=0,
        shutdown_timeout=0,
        max_line_size=MAX_LINE,
        max_field_size=MAX_FIELD,
        max_headers=MAX_FIELDS,
    )
    servers: list[asyncio.AbstractServer] = []
    try:
        await runner.setup()
        loop = asyncio.get_running_loop()
        for sock in bound:
            try:
                servers.append(await loop.create_server(lambda: _connection(runner), sock=sock))
            except OSError as error:  # somebody else was bound as we were, and is first to listen
                raise ListenError.of(error, host, port, SETTING) from error
        yield sockets.port_of(bound)
    finally:
        for server in servers:
            server.close()
        await runner.cleanup()
        sockets.close(bound)


def _connection(runner: web.AppRunner) -> asyncio.BaseProtocol:
    server = runner.server
    assert server is not None  # noqa: S101 (the runner is set up)
    if len(server.connections) >= MAX_CONNECTIONS:
        return _Refused()
    connection = server()
    asyncio.get_running_loop().call_later(CONNECTION_LIFE, connection.force_close)
    return _Opening(connection)


class _Opening(asyncio.Protocol):
    """Takes off a PROXY header: a load balancer that sends them does so before its health checks, too
    (NLB, "Edit target group attributes", health check connections). Nobody is believed what is in it."""

    def __init__(self, http: RequestHandler) -> None:
        self._http = http
        self._header = ProxyReader()
        self._has_begun = False
        self._octets = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._http.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._http.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._octets += data
        if not self._has_begun:
            if not SIGNATURE.startswith(self._octets[: len(SIGNATURE)]):
                self._hand_over()
                return
            if len(self._octets) < len(SIGNATURE):
                return
            self._has_begun = True
        try:
            while self._octets and not self._header.is_done:
                wanted = self._header.wanted
                head, self._octets = self._octets[:wanted], self._octets[wanted:]
                self._header.feed(head)
        except ProxyFault:
            self._transport.close()
            return
        if self._header.is_done:
            self._hand_over()

    def _hand_over(self) -> None:
        self._transport.set_protocol(self._http)
        self._http.data_received(self._octets)


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _application(health: HasHealth) -> web.Application:
    async def live(request: web.Request) -> web.Response:
        return _answer(health.live())

    async def ready(request: web.Request) -> web.Response:
        return _answer(await health.ready())

    application = web.Application()
    application.router.add_get("/health/live", live)
    application.router.add_get("/health/ready", ready)
    application.on_response_prepare.append(_dress)
    return application


def _answer(report: Report) -> web.Response:
    response = web.json_response(report.as_json(), status=200 if report.ok else 503)
    response.headers["Cache-Control"] = "no-store"
    response.force_close()
    return response


async def _dress(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "Empath"  # and not what it is made of
