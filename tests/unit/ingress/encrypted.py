"""A server that shakes hands as the ingress does, says whom it sees, and echoes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from empath.ingress import tls
from empath.ingress.tls import Certificate


class Echo(asyncio.Protocol):
    """A line in the clear begins the handshake, unless TLS is `implicit`. Within TLS it says the client's
    identity, `-` for none, and then whatever comes."""

    def __init__(self, certificate: Certificate, failures: asyncio.Queue[str], implicit: bool) -> None:
        self._certificate = certificate
        self._failures = failures
        self._ahead = bytearray() if implicit else None
        self._encrypted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        if self._ahead is not None:
            self._begin()

    def data_received(self, data: bytes) -> None:
        if not self._encrypted and self._ahead is not None:
            self._ahead += data
            return
        if not self._encrypted:
            self._begin()
        self._transport.write(data)

    def _begin(self) -> None:
        self._transport.pause_reading()
        self._shaking = asyncio.get_running_loop().create_task(self._shake_hands())

    async def _shake_hands(self) -> None:
        plain = self._transport
        try:
            self._transport = await tls.shake_hands(
                plain,
                self,
                self._certificate.context,
                handshake_timeout=5,
                shutdown_timeout=1,
                ahead=self._ahead,
            )
        except OSError as error:
            self._failures.put_nowait(getattr(error, "verify_message", "") or str(error))
            plain.abort()
            return
        self._encrypted = True
        self._transport.write((tls.client_identity(self._transport) or "-").encode() + b"\n")


@asynccontextmanager
async def serving(
    certificate: Certificate, *, implicit: bool = False
) -> AsyncIterator[tuple[int, asyncio.Queue[str]]]:
    """Its port, and the reasons of handshakes that failed."""
    failures: asyncio.Queue[str] = asyncio.Queue()
    server = await asyncio.get_running_loop().create_server(
        lambda: Echo(certificate, failures, implicit), "127.0.0.1", 0
    )
    async with asyncio.timeout(15):
        try:
            yield server.sockets[0].getsockname()[1], failures
        finally:
            server.close()


async def connect(
    port: int, client: ssl.SSLContext, name: str = "mx.example"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which the handshake is done, as far as the client knows."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"please\n")
    await reader.readline()
    await writer.start_tls(client, server_hostname=name)
    return reader, writer


async def identity_of(port: int, client: ssl.SSLContext) -> str:
    """What the server says of a client; empty when it hangs up instead."""
    try:
        reader, writer = await connect(port, client)
        line = await reader.readline()
    except OSError:
        return ""
    writer.close()
    return line.decode().rstrip()
