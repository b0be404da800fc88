"""TLS on accepted connections: the context out of files, the handshake, and what came of it.

Knows no SMTP; when a handshake begins is the session's business.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from empath.domain.errors import ConfigError


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A context for TLS 1.2 and newer (RFC 8996). Raises ConfigError that names what cannot be used."""
    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        # An encrypted key would make OpenSSL ask on the terminal; there is nobody to answer.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        why = getattr(error, "reason", None) or str(error)
        raise ConfigError(f"cannot use {certificate} with {key}: {why}") from None
    return context


async def shake_hands(
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    *,
    handshake_timeout: float,
    shutdown_timeout: float,
) -> asyncio.Transport:
    """TLS over `transport`, which must not be read meanwhile. Raises OSError (which ssl.SSLError is) when
    the client cannot or will not; the connection is unusable then."""
    encrypted = await asyncio.get_running_loop().start_tls(
        transport,
        protocol,
        context,
        server_side=True,
        ssl_handshake_timeout=handshake_timeout,
        ssl_shutdown_timeout=shutdown_timeout,
    )
    if encrypted is None:
        raise ConnectionAbortedError("the client left within the handshake")
    return encrypted


def describe(transport: asyncio.BaseTransport) -> str | None:
    """`TLSv1.3 TLS_AES_256_GCM_SHA384`; None without TLS."""
    tls = transport.get_extra_info("ssl_object")
    if tls is None or tls.cipher() is None:
        return None
    return f"{tls.version()} {tls.cipher()[0]}"
