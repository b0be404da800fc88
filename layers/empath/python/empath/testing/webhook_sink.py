"""A receiver of webhooks over HTTPS on loopback: it does what a script says and keeps what it was posted.

async with WebhookSink([(429, {"Retry-After": "300"}, "busy")]) as sink:
    ... post to https://hook.test:{sink.port}/ with sink.context ...
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from aiohttp import web

from empath.testing.certificates import client_context, load, self_signed, server_context

Answer = tuple[int, Mapping[str, str], str] | Literal["drop", "stall"]
"""Status, headers and body; or nothing, once the whole request is read."""


@dataclass(frozen=True, slots=True)
class Posted:
    """A request that was read to its end."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def content(self) -> bytes:
        return base64.b64decode(self.document["content"], validate=True)


class WebhookSink:
    def __init__(self, script: list[Answer] | None = None, *, hostname: str = "hook.test") -> None:
        """`script` is used up request by request; then everything is answered with 204."""
        self.script = list(script or [])
        self.posted: list[Posted] = []
        self.port = 0
        certificate, key = self_signed(hostname)
        self.context = client_context(certificate)
        """What a client needs that is to trust this receiver and nobody else."""
        self._tls = server_context(hostname)
        load(self._tls, certificate, key)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=256 * 1_048_576)
        app.router.add_route("*", "/{tail:.*}", self._receive)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.posted.append(Posted(request.path, dict(request.headers), body))
        answer: Answer = self.script.pop(0) if self.script else (204, {}, "")
        if answer == "stall":
            await asyncio.sleep(3600)
        if isinstance(answer, str):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        status, headers, text = answer
        return web.Response(status=status, headers=headers, text=text)
