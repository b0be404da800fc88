"""SMTP sessions with next hops: connect, EHLO and TLS over aiosmtplib. `channel` sends the mail.

TLS is opportunistic unless policy says otherwise: certificates are not verified, since an attacker who
can present a false one can take STARTTLS away as well (RFC 7435), and encryption without proof of
identity beats none.
"""

from __future__ import annotations

import ssl
from functools import cached_property

from empath.domain.errors import Refusal, TransientRefusal
from empath.domain.reason import Reason
from empath.net.channel import SmtpChannel
from empath.net.extension_memory import ExtensionMemory
from empath.net.guard import guard
from empath.net.mapping import tls_failed
from empath.net.session import ClientSession
from empath.net.timeouts import DEFAULT_TIMEOUTS, Deadline, Timeouts
from empath.net.wire import Wire
from empath.ports import Endpoint
from empath.smtp.client import Offer

_BROKEN = frozenset({Reason.CONNECTION_LOST, Reason.TIMEOUT, Reason.PROTOCOL_ERROR})


class SmtpDialer:
    """Dialer over real sockets."""

    def __init__(
        self,
        hostname: str,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        memory: ExtensionMemory | None = None,
    ) -> None:
        """`hostname` is ours, for EHLO; ValueError when it cannot be said there."""
        if not (hostname.isascii() and hostname.isprintable()) or " " in hostname or not hostname:
            raise ValueError(f"hostname {hostname!r} is nothing to say in EHLO")
        self._hostname = hostname
        self._timeouts = timeouts
        self._memory = memory or ExtensionMemory()

    async def connect(self, endpoint: Endpoint, *, deadline: float) -> SmtpChannel:
        guard(endpoint)

        async def open_session(end: Deadline) -> ClientSession:
            return await self._connect(endpoint, end)

        session = await open_session(Deadline(deadline))
        return SmtpChannel(session, open_session, endpoint.host, self._memory)

    async def _connect(self, endpoint: Endpoint, end: Deadline) -> ClientSession:
        if endpoint.tls == "disabled":
            return await self._open(endpoint, end, try_tls=False)
        try:
            return await self._open(endpoint, end, try_tls=True)
        except TransientRefusal as refusal:
            if endpoint.tls == "required" or refusal.reason is not Reason.TLS_FAILED:
                raise
        # After a handshake that failed there is no session to go on with: begin anew, in plain.
        return await self._open(endpoint, end, try_tls=False)

    async def _open(self, endpoint: Endpoint, deadline: Deadline, *, try_tls: bool) -> ClientSession:
        timeouts = self._timeouts
        wire = await Wire.open(
            endpoint,
            hostname=self._hostname,
            connect=timeouts.connect,
            greeting=timeouts.greeting,
            deadline=deadline,
        )
        try:
            await wire.hello(timeouts.hello)
            if try_tls and "starttls" in wire.extensions:
                await wire.start_tls(self._context, endpoint.host, timeouts.tls)
                await self._hello_in_tls(wire, endpoint)
            elif endpoint.tls == "required":
                raise tls_failed(f"TLS is required, and {endpoint.host} does not offer it", status="4.7.4")
            offer = Offer.of(wire.extensions)
            offer = offer.without(self._memory.left_off(endpoint.host, offer.keywords))
            tls = wire.tls
            return ClientSession(wire.release(), offer, timeouts, deadline, tls)
        except BaseException:
            wire.abort()
            raise

    async def _hello_in_tls(self, wire: Wire, endpoint: Endpoint) -> None:
        """EHLO again (RFC 3207 §4.2). In TLS 1.3 a server's refusal of the handshake shows only here."""
        try:
            await wire.hello(self._timeouts.hello)
        except Refusal as refusal:
            if refusal.reason in _BROKEN:
                raise tls_failed(f"TLS with {endpoint.host} failed: {refusal.reply.text}") from refusal
            raise

    @cached_property
    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Old servers with short keys: the alternative to weak encryption here is none.
        context.set_ciphers("DEFAULT:@SECLEVEL=1")
        return context
