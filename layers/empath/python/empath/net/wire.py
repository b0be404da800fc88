"""Negotiation over aiosmtplib: connect, greeting, EHLO, STARTTLS. `takeover` ends its part.

Beyond its public interface `_buffer` of its protocol is looked at, because a stray reply must never be
taken for the answer to a later command.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from typing import cast

from aiosmtplib import SMTP, SMTPException, SMTPHeloError, SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from empath.domain.errors import PermanentRefusal
from empath.domain.reply import Reply
from empath.net.mapping import refusal_of, refusal_of_reply, tls_failed, unreachable
from empath.net.stream import MailStream
from empath.net.takeover import take_over
from empath.net.timeouts import Deadline
from empath.ports import Endpoint
from empath.smtp.client.verdicts import UNSAYABLE, lost, unreadable

# What a TLS server name can be: letters, digits, hyphens, and the underscores that exist all the same.
_SERVER_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62}\.)*[a-z0-9_-]{1,62}", re.IGNORECASE)


class Wire:
    """One connection. Every method raises refusals only, and the connection is unusable after one
    that is not a reply."""

    def __init__(self, smtp: SMTP, protocol: SMTPProtocol, deadline: Deadline) -> None:
        self._smtp = smtp
        self._protocol = protocol
        self.deadline = deadline

    @classmethod
    async def open(
        cls, endpoint: Endpoint, *, hostname: str, connect: float, greeting: float, deadline: Deadline
    ) -> Wire:
        """Connect to the address, not the name, and wait for the greeting."""
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
        smtp = SMTP(sock=sock, local_hostname=hostname, start_tls=False)
        try:
            await smtp.connect(timeout=deadline.cut(greeting))
        except (OSError, SMTPResponseException) as error:
            raise refusal_of(error, "the greeting") from error
        if smtp.protocol is None:
            raise lost("the greeting")
        return cls(smtp, smtp.protocol, deadline)

    @property
    def extensions(self) -> Mapping[str, str]:
        """What EHLO offered: keywords in lower case, with their parameters."""
        return self._smtp.esmtp_extensions

    @property
    def usable(self) -> bool:
        return self._protocol.is_connected

    @property
    def tls(self) -> str | None:
        """`TLSv1.3 TLS_AES_256_GCM_SHA384`, None without TLS or connection."""
        transport = self._protocol.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        if tls is None or tls.cipher() is None:
            return None
        return f"{tls.version()} {tls.cipher()[0]}"

    async def hello(self, timeout: float) -> None:
        """EHLO, and HELO where the next hop does not know it (RFC 5321 §3.2)."""
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

    async def start_tls(self, context: ssl.SSLContext, host: str, timeout: float) -> None:
        """STARTTLS and the handshake, with `host` as server name; TLS_FAILED when either fails."""
        name = host if _SERVER_NAME.fullmatch(host) else None
        if self._protocol._buffer:
            raise tls_failed(f"TLS with {host} failed: octets came before it was begun")
        try:
            await self._smtp.starttls(
                tls_context=context, server_hostname=name, timeout=max(self.deadline.cut(timeout), 0.001)
            )
        except (OSError, SMTPException, ValueError) as error:
            self.abort()
            raise tls_failed(f"TLS with {host} failed: {_words_of_tls(error)}") from error

    async def command(self, *words: bytes, timeout: float, step: str) -> Reply:
        """Send one command line and wait for its reply."""
        self._refuse_stray_octets(step)
        try:
            response = await self._smtp.execute_command(*words, timeout=self.deadline.cut(timeout))
        except ValueError as error:  # a control character in a word: no such command can be sent
            raise PermanentRefusal(UNSAYABLE.reply, UNSAYABLE.reason) from error
        except (OSError, SMTPResponseException) as error:
            self.abort()
            raise refusal_of(error, step) from error
        return _reply_of(response)

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


def _words_of_tls(error: Exception) -> str:
    """What went wrong, in the library's short words and without its source locations."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "handshake failure").replace("_", " ").lower()
    if isinstance(error, SMTPResponseException):
        return str(Reply.heard(error.code, error.message))
    return "connection lost or timed out" if isinstance(error, OSError) else "not possible"
