"""Negotiation over aiosmtplib: connect, greeting, EHLO (LHLO), STARTTLS, AUTH. `takeover` ends its part.

Beyond its public interface `_buffer` of its protocol is looked at, because a stray reply must never be
taken for the answer to a later command.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from aiosmtplib import SMTP, SMTPException, SMTPHeloError, SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from empath.domain.errors import PermanentRefusal, TransientRefusal
from empath.domain.reply import Reply
from empath.net.mapping import (
    CertificateRefused,
    auth_failed,
    refusal_of,
    refusal_of_reply,
    tls_failed,
    unreachable,
)
from empath.net.stream import MailStream
from empath.net.takeover import take_over
from empath.net.timeouts import Deadline
from empath.ports import Credentials, Endpoint
from empath.smtp.client.verdicts import UNSAYABLE, lost, unreadable

# What a TLS server name can be: letters, digits, hyphens, and the underscores that exist all the same.
_SERVER_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62}\.)*[a-z0-9_-]{1,62}", re.IGNORECASE)


class Wire:
    """One connection. Every method raises refusals only, and the connection is unusable after one
    that is not a reply."""

    def __init__(self, smtp: SMTP, protocol: SMTPProtocol, deadline: Deadline, *, is_lmtp: bool) -> None:
        self._smtp = smtp
        self._is_lmtp = is_lmtp
        self._protocol = protocol
        self.deadline = deadline

    @classmethod
    async def open(
        cls,
        endpoint: Endpoint,
        *,
        hostname: str,
        connect: float,
        greeting: float,
        deadline: Deadline,
        tls: tuple[ssl.SSLContext, str] | None = None,
    ) -> Wire:
        """Connect to the address, not the name, and wait for the greeting; with `tls` (a context and the
        name to ask for) in TLS from the first octet on."""
        sock = socket.socket(
            socket.AF_INET if endpoint.address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM
        )
        try:
            sock.setblocking(False)
            connecting = asyncio.get_running_loop().sock_connect(sock, (str(endpoint.address), endpoint.port))
            await asyncio.wait_for(connecting, deadline.cut(connect))
        except OSError as error:
            sock.close()
            raise unreachable(error, str(endpoint)) from error
        except BaseException:
            sock.close()
            raise
        context, name = tls or (None, None)
        smtp = SMTP(
            hostname=None if name is None else _server_name(name) or str(endpoint.address),
            sock=sock,
            local_hostname=hostname,
            start_tls=False,
            use_tls=tls is not None,
            tls_context=context,
        )
        try:
            await smtp.connect(timeout=deadline.cut(greeting))
        except (OSError, SMTPResponseException) as error:
            if isinstance(error.__cause__, ssl.SSLError):
                raise _refusal_of_tls(error, endpoint.host) from error
            raise refusal_of(error, "the greeting") from error
        if smtp.protocol is None:
            raise lost("the greeting")
        return cls(smtp, smtp.protocol, deadline, is_lmtp=endpoint.protocol == "lmtp")

    @property
    def extensions(self) -> Mapping[str, str]:
        """What EHLO offered: keywords in lower case, with their parameters."""
        return self._smtp.esmtp_extensions

    @property
    def usable(self) -> bool:
        return self._protocol.is_connected

    @property
    def tls(self) -> tuple[str, str] | None:
        """Protocol and cipher, None without TLS or connection."""
        transport = self._protocol.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        if tls is None or tls.cipher() is None:
            return None
        return str(tls.version()), str(tls.cipher()[0])

    async def hello(self, timeout: float) -> None:
        """EHLO, and HELO where the next hop does not know it (RFC 5321 §3.2); or LHLO (RFC 2033 §4.1)."""
        if self._is_lmtp:
            response = await self._execute(b"LHLO", self._hostname, timeout=timeout, step="the reply to LHLO")
            if response.code != 250:
                raise refusal_of_reply(_reply_of(response))
            self._smtp.last_ehlo_response = response
            return
        step = "the reply to EHLO"
        self._refuse_stray_octets(step)
        try:
            await self._smtp.ehlo(timeout=self.deadline.cut(timeout))
        except SMTPHeloError as error:
            if not (500 <= error.code < 600 and self.usable):
                raise refusal_of(error, step) from error
        except (OSError, SMTPResponseException) as error:
            self.abort()
            raise refusal_of(error, step) from error
        else:
            return
        reply = await self.command(b"HELO", self._hostname, timeout=timeout, step="the reply to HELO")
        if reply.code != 250:
            raise refusal_of_reply(reply)

    async def start_tls(self, context: ssl.SSLContext, host: str, name: str, timeout: float) -> None:
        """STARTTLS and the handshake with `host` as `name`; TLS_FAILED when either fails."""
        if self._protocol._buffer:
            raise tls_failed(f"TLS with {host} failed: octets came before it was begun")
        try:
            await self._smtp.starttls(
                tls_context=context,
                server_hostname=_server_name(name),
                timeout=max(self.deadline.cut(timeout), 0.001),
            )
        except (OSError, SMTPException, ValueError) as error:
            self.abort()
            raise _refusal_of_tls(error, host) from error

    async def command(self, *words: bytes, timeout: float, step: str) -> Reply:
        """Send one command line and wait for its reply."""
        return _reply_of(await self._execute(*words, timeout=timeout, step=step))

    async def log_in(self, credentials: Credentials, timeout: float) -> None:
        """AUTH PLAIN or LOGIN (RFC 4954), in TLS only. Whatever goes wrong is AUTH_FAILED, and transient:
        a password that was mistyped or ran out is mended by somebody, and mail waits for it."""
        step = "the reply to AUTH"
        self._refuse_stray_octets(step)
        if self.tls is None:
            raise auth_failed("AUTH needs TLS, and the session has none", status="4.7.11")
        methods = {method.lower() for method in self._smtp.server_auth_methods}
        say = next((say for name, say in self._ways_to_log_in if name in methods), None)
        if say is None:
            raise auth_failed("the next hop offers neither AUTH PLAIN nor AUTH LOGIN", status="4.7.4")
        try:
            await say(credentials.username, credentials.password, timeout=self.deadline.cut(timeout))
        except SMTPResponseException as error:
            self.abort()
            raise auth_failed(
                f"the next hop refused AUTH: {Reply.heard(error.code, error.message)}"
            ) from None
        except OSError as error:
            self.abort()
            raise refusal_of(error, step) from None
        except (SMTPException, ValueError):  # a login that cannot be said; no chain, it would quote it
            self.abort()
            raise auth_failed("the user name or password cannot be said in AUTH") from None

    @property
    def _ways_to_log_in(self) -> tuple[tuple[str, Callable[..., Awaitable[SMTPResponse]]], ...]:
        return (("plain", self._smtp.auth_plain), ("login", self._smtp.auth_login))

    async def _execute(self, *words: bytes, timeout: float, step: str) -> SMTPResponse:
        self._refuse_stray_octets(step)
        try:
            return await self._smtp.execute_command(*words, timeout=self.deadline.cut(timeout))
        except ValueError as error:  # a control character in a word: no such command can be sent
            raise PermanentRefusal(UNSAYABLE.reply, UNSAYABLE.reason) from error
        except (OSError, SMTPResponseException) as error:
            self.abort()
            raise refusal_of(error, step) from error

    def release(self) -> MailStream:
        """The connection, for transactions; nothing of this wire may be used any more."""
        return take_over(self._protocol)

    def abort(self) -> None:
        """Drop the connection at once, whatever is still unsent."""
        transport = self._protocol.transport
        if transport is not None:
            cast(asyncio.WriteTransport, transport).abort()  # uvloop's are no subclass of it
        self._smtp.close()

    def _refuse_stray_octets(self, step: str) -> None:
        """What came after the last reply would be taken for the next one."""
        if self._protocol._buffer:
            self.abort()
            raise unreadable(step)

    @property
    def _hostname(self) -> bytes:
        return (self._smtp.local_hostname or "localhost").encode("ascii", "replace")


def _reply_of(response: SMTPResponse) -> Reply:
    return Reply.heard(response.code, response.message)


def _server_name(name: str) -> str | None:
    return name if _SERVER_NAME.fullmatch(name) or ":" in name else None


def _refusal_of_tls(error: Exception, host: str) -> TransientRefusal:
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return CertificateRefused(host, cause.verify_message.strip().removesuffix("."))
    seen = cause if isinstance(cause, ssl.SSLError) else error
    return tls_failed(f"TLS with {host} failed: {_words_of_tls(seen)}")


def _words_of_tls(error: BaseException) -> str:
    """What went wrong, in the library's short words and without its source locations."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "handshake failure").replace("_", " ").lower()
    if isinstance(error, SMTPResponseException):
        return str(Reply.heard(error.code, error.message))
    return "connection lost or timed out" if isinstance(error, OSError) else "not possible"
