"""TLS on accepted connections: contexts, the handshake, and what came of it.

Knows no SMTP and no settings; when a handshake begins is the session's business, where certificates come from
that of `empath.ingress.certificates`.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from empath.domain.errors import ConfigError
from empath.ingress.pem import KeyPair

X509_V_FLAG_NO_CHECK_TIME = 0x200000
"""X509_VERIFY_PARAM_set_flags(3); the `ssl` module has no name for it."""

MAX_IDENTITY = 254
"""Octets; a mailbox has no more (RFC 5321 §4.5.3.1.3, less the angle brackets)."""

_IDENTITY = re.compile(rf"[!-)+-~]{{1,{MAX_IDENTITY}}}")  # printable ASCII; no spaces, and no `*`


class Certificate(Protocol):
    """What a listener serves with: `context` is asked for at each handshake, so it may change."""

    @property
    def context(self) -> ssl.SSLContext: ...


@dataclass(frozen=True, slots=True)
class FixedCertificate:
    """A context that stays."""

    context: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate counts, and its DNS names."""

    begins: datetime
    ends: datetime
    names: tuple[str, ...]


def make_context(pair: KeyPair) -> ssl.SSLContext:
    """A server's context for TLS 1.2 and newer (RFC 8996). Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # No tickets: mail clients hardly ever come back with one, they are two more messages in each handshake,
    # and OpenSSL never changes their key (RFC 9325 §3.4). What stays is TLS 1.2's resumption by session id,
    # which `ssl` cannot turn off: at most 20,480 sessions of 1.1 KiB, forgotten with the context.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        with _as_file(pair.chain + pair.key) as path:
            context.load_cert_chain(path)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(_why(error)) from None
    return context


def trust_clients_of(context: ssl.SSLContext, authorities: bytes) -> None:
    """Let clients show a certificate that one of `authorities` (PEM) issued.

    A client that shows another one, or one that is expired or not meant for clients, fails in the handshake;
    a client that shows none is as good as ever. Raises ConfigError.
    """
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(cadata=authorities.decode())
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(_why(error)) from None


def prove(context: ssl.SSLContext, chain: bytes) -> Validity:
    """A handshake in memory with a client that trusts just this certificate, whatever the time is.

    It shows what loading does not: that the certificate is one for servers, with a key that clients accept.
    Raises ConfigError.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME
    try:
        client.load_verify_locations(cadata=chain.decode())
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server_side = context.wrap_bio(incoming, outgoing, server_side=True)
        client_side = client.wrap_bio(outgoing, incoming)
        for side in (client_side, server_side) * 2:  # TLS 1.3 takes one round trip, TLS 1.2 two
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
        shown: Any = client_side.getpeercert()
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(_why(error)) from None
    return Validity(
        begins=_instant(shown["notBefore"]),
        ends=_instant(shown["notAfter"]),
        names=tuple(value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"),
    )


async def shake_hands(
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    *,
    handshake_timeout: float,
    shutdown_timeout: float,
    ahead: bytearray | None = None,
) -> asyncio.Transport:
    """TLS over `transport`, whose reading is paused.

    `ahead` has the octets of the handshake that `protocol` was given already, and may still be given as long
    as it is the transport's protocol: uvloop ignores a pause within connection_made. None: there are none,
    for what came in the clear before has no place in a handshake.

    Raises OSError (which ssl.SSLError is) when the client cannot or will not; the connection is unusable
    then.
    """
    loop = asyncio.get_running_loop()
    handshake = loop.create_task(
        loop.start_tls(
            transport,
            protocol,
            context,
            server_side=True,
            ssl_handshake_timeout=handshake_timeout,
            ssl_shutdown_timeout=shutdown_timeout,
        )
    )
    try:
        if ahead is not None:
            await asyncio.sleep(0)  # the task has changed the protocol and called for reading, which follows
            loop.call_soon(_hand_over, transport, protocol, ahead)
        encrypted = await handshake
    finally:
        handshake.cancel()
    if encrypted is None:
        raise ConnectionAbortedError("the client left within the handshake")
    return encrypted


def _hand_over(transport: asyncio.Transport, before: asyncio.BaseProtocol, octets: bytearray) -> None:
    """Give TLS what was read before it was there, as if the socket had given it."""
    tls = cast(asyncio.BufferedProtocol, transport.get_protocol())
    if tls is before:
        return  # the handshake did not begin
    left = memoryview(bytes(octets))
    while left and not transport.is_closing():
        buffer = cast(memoryview, tls.get_buffer(len(left)))
        taken = min(len(buffer), len(left))
        buffer[:taken] = left[:taken]
        tls.buffer_updated(taken)
        left = left[taken:]


def describe(transport: asyncio.BaseTransport) -> str | None:
    """`TLSv1.3 TLS_AES_256_GCM_SHA384`; None without TLS."""
    tls = transport.get_extra_info("ssl_object")
    if tls is None or tls.cipher() is None:
        return None
    return f"{tls.version()} {tls.cipher()[0]}"


def client_identity(transport: asyncio.BaseTransport) -> str | None:
    """The one name in the client's verified certificate, in lower case; None without such a certificate.

    It is the rfc822Name of the subject's alternative names; without one, the dNSName; without either, the
    subject's common name (RFC 5280 §4.2.1.6, §4.1.2.6). A certificate that could mean two users means none:
    where the kind that decides has two different names, or one that is too long or not printable ASCII
    without spaces and `*`, there is no identity.
    """
    tls = transport.get_extra_info("ssl_object")
    # Empty for a certificate that was not verified; our contexts let none through.
    shown: Any = tls.getpeercert() if tls is not None else None
    if not shown:
        return None
    alternatives = shown.get("subjectAltName", ())
    subject = [part for parts in shown.get("subject", ()) for part in parts]
    for kind, fields in (("email", alternatives), ("DNS", alternatives), ("commonName", subject)):
        values = [value for name, value in fields if name == kind]
        if values:
            # Before `lower`, which makes ASCII of some letters that are not.
            if not all(_IDENTITY.fullmatch(value) for value in values):
                return None
            names = {value.lower() for value in values}
            return names.pop() if len(names) == 1 else None
    return None


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path under which `content` can be read until the end of the block, by this user only.

    `ssl` loads keys from paths only. Linux has files that are nothing but memory; elsewhere it is a private
    one in the directory for temporary files.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return "the private key is not the certificate's (KEY_VALUES_MISMATCH)"
    return getattr(error, "verify_message", None) or reason or str(error)


def _instant(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)
