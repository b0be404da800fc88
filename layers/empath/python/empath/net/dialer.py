"""SMTP sessions with next hops: connect, EHLO, TLS and AUTH over aiosmtplib. `channel` sends the mail.

How TLS is begun, and what comes after it failed, is in `tls`.
"""

from __future__ import annotations

import logging

from empath.domain.errors import Refusal, TransientRefusal
from empath.domain.reason import Reason
from empath.domain.tls import UNVERIFIED, VERIFIED, TlsSession, invalid
from empath.net.channel import SmtpChannel
from empath.net.extension_memory import ExtensionMemory
from empath.net.guard import guard
from empath.net.mapping import CertificateRefused, tls_failed
from empath.net.session import ClientSession
from empath.net.timeouts import DEFAULT_TIMEOUTS, Deadline, Timeouts
from empath.net.tls import TlsContexts, Way, first_way, name_of, way_after
from empath.net.wire import Wire
from empath.ports import Endpoint, Metrics
from empath.smtp.client import LmtpTransaction, MailTransaction, Offer

logger = logging.getLogger(__name__)

_BROKEN = frozenset({Reason.CONNECTION_LOST, Reason.TIMEOUT, Reason.PROTOCOL_ERROR})


class SmtpDialer:
    """Dialer over real sockets."""

    def __init__(
        self,
        hostname: str,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        memory: ExtensionMemory | None = None,
        contexts: TlsContexts | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`hostname` is ours, for EHLO; ValueError when it cannot be said there.

        Counts `tls_failed_<mode>` for every handshake that failed or was not offered where it must be, and
        `tls_invalid_accepted`.
        """
        if not (hostname.isascii() and hostname.isprintable()) or " " in hostname or not hostname:
            raise ValueError(f"hostname {hostname!r} is nothing to say in EHLO")
        self._hostname = hostname
        self._timeouts = timeouts
        self._memory = memory or ExtensionMemory()
        self._contexts = contexts or TlsContexts()
        self._metrics = metrics

    async def connect(self, endpoint: Endpoint, *, deadline: float) -> SmtpChannel:
        guard(endpoint)

        async def open_session(end: Deadline) -> ClientSession:
            return await self._connect(endpoint, end)

        session = await open_session(Deadline(deadline))
        return SmtpChannel(session, open_session, endpoint.host, self._memory)

    async def _connect(self, endpoint: Endpoint, end: Deadline) -> ClientSession:
        try:
            return await self._open(endpoint, end, first_way(endpoint))
        except TransientRefusal as refusal:
            way = way_after(endpoint, refusal)
            if refusal.reason is Reason.TLS_FAILED:
                self._count(f"tls_failed_{endpoint.tls}", endpoint.host)
                # Who goes on in plain has no other trace of why.
                logger.info(
                    "TLS with a next hop failed",
                    extra={
                        "next_hop": str(endpoint),
                        "site": endpoint.site,
                        "policy": endpoint.tls,
                        "reply": str(refusal.reply),
                        "goes_on": way and way.name.lower(),
                    },
                )
            if way is None:
                raise
            failure = refusal
            fault = refusal.fault if isinstance(refusal, CertificateRefused) else None
        # After a handshake that failed there is no session to go on with: begin anew.
        session = await self._open(endpoint, end, way, UNVERIFIED if fault is None else invalid(fault))
        if way is Way.PLAIN:
            session.tls_failure = failure
        if fault is not None:
            self._count("tls_invalid_accepted", endpoint.host)
            logger.warning(
                "a next hop's certificate is not valid; mail is sent all the same, as policy says",
                extra={"next_hop": str(endpoint), "certificate_for": name_of(endpoint), "fault": fault},
            )
        return session

    async def _open(
        self, endpoint: Endpoint, deadline: Deadline, way: Way, unchecked: str = UNVERIFIED
    ) -> ClientSession:
        """`unchecked` is what is kept of a certificate that nobody looks at."""
        timeouts, host = self._timeouts, endpoint.host
        name = name_of(endpoint)
        wire = await Wire.open(
            endpoint,
            hostname=self._hostname,
            connect=timeouts.connect,
            greeting=timeouts.greeting,
            deadline=deadline,
            tls=(self._contexts.of(way), name) if endpoint.implicit_tls else None,
        )
        try:
            await wire.hello(timeouts.hello)
            if not endpoint.implicit_tls and way is not Way.PLAIN:
                if "starttls" in wire.extensions:
                    await wire.start_tls(self._contexts.of(way), host, name, timeouts.tls)
                    await self._hello_in_tls(wire, endpoint)
                elif endpoint.tls in ("required", "verified"):
                    raise tls_failed(f"TLS is required, and {host} does not offer it", status="4.7.4")
            if endpoint.credentials is not None:
                await wire.log_in(endpoint.credentials, timeouts.auth)
            offer = Offer.of(wire.extensions)
            offer = offer.without(self._memory.left_off(host, offer.keywords))
            tls = None
            if wire.tls is not None:
                checked = VERIFIED if way is Way.CHECKED else unchecked
                tls = str(TlsSession(*wire.tls, peer=name, verification=checked))
            kind = LmtpTransaction if endpoint.protocol == "lmtp" else MailTransaction
            return ClientSession(wire.release(), offer, timeouts, deadline, tls, kind)
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

    def _count(self, name: str, host: str) -> None:
        if self._metrics is not None:
            self._metrics.count(name, domain=host)
