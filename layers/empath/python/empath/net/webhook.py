"""Route `webhook`: mail by HTTPS POST, one request for a delivery (docs/ROUTES.md has the receiver's side).

The address is looked up and judged by us and nobody else, and redirects are not followed: a policy's URL
does not lead into the network that the function stands in, unless the policy allows those addresses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from empath.domain.errors import EmpathError, Refusal, TransientRefusal
from empath.domain.network import IPAddress, is_allowed
from empath.domain.outcome import Deferred, Failed, RecipientOutcome, Sent
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.domain.route import WebhookRoute
from empath.domain.tls import VERIFIED, TlsSession
from empath.net.webhook_request import SignedBody, key_of, sign
from empath.pipeline.secret_memory import SecretMemory, unusable
from empath.ports import Clock, Handover, Resolver, Transaction

CONNECT = 30.0
"""Seconds for the connection and its TLS handshake."""

MAX_ANSWER = 1024
"""Octets of an answer that are looked at."""

_LATER = frozenset({408, 425, 429})
"""The refusals of the 4xx class that say "not now": RFC 9110 §15.5.9, RFC 8470 §5.2, RFC 6585 §4."""


class ToWebhook:
    def __init__(
        self,
        resolver: Resolver,
        secrets: SecretMemory,
        clock: Clock,
        *,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`context` for TLS, where the system's authorities are not those to trust."""
        self._resolver, self._secrets, self._clock, self._context = resolver, secrets, clock, context

    async def find(self, destination: str, policy: DomainPolicy) -> WebhookHop:
        if not isinstance(policy.route, WebhookRoute):
            raise TypeError(f"not the settings of a webhook: {policy.route!r}")
        return WebhookHop(policy.route, policy, self._resolver, self._secrets, self._clock, self._context)


@dataclass(frozen=True, slots=True)
class WebhookHop:
    settings: WebhookRoute
    policy: DomainPolicy
    resolver: Resolver
    secrets: SecretMemory
    clock: Clock
    context: ssl.SSLContext | None

    @property
    def site(self) -> str:
        host, port = self._host_and_port
        return f"https://{host}:{port}"

    async def deliver(self, transaction: Transaction, *, time_left: Callable[[], float]) -> Handover:
        try:
            async with asyncio.timeout(time_left()):
                key = await self._key()
                addresses = await self._addresses()
                body = await sign(transaction, key=key, timestamp=int(self.clock.now().timestamp()))
        except Refusal as refusal:
            return Handover.refused(transaction, refusal)
        except TimeoutError:
            return Handover.refused(transaction, _timed_out("before anything was sent"))
        return await _Post(self, transaction, body, addresses).run(time_left)

    @property
    def _host_and_port(self) -> tuple[str, int]:
        url = URL(self.settings.url)
        return url.host or "", url.port or 443

    async def _key(self) -> bytes:
        text = await self.secrets.text(self.settings.secret)
        try:
            return key_of(text)
        except ValueError as error:
            raise unusable(f"the secret {self.settings.secret!r} holds no key: {error}") from None

    async def _addresses(self) -> Sequence[IPAddress]:
        host, _ = self._host_and_port
        try:
            found: Sequence[IPAddress] = [ipaddress.ip_address(host)]
        except ValueError:
            found = await self.resolver.addresses(host)
        if not found:
            raise unusable(f"host {host} has no address")
        allowed = [address for address in found if is_allowed(address, self.policy.allow_addresses)]
        usable = self.policy.addresses.order(allowed)
        if not usable:
            shown = ", ".join(str(address) for address in found[:3])
            raise unusable(f"host {host} has only addresses that mail may not be delivered to ({shown})")
        return usable


class _Post:
    """One request."""

    def __init__(
        self, hop: WebhookHop, transaction: Transaction, body: SignedBody, addresses: Sequence[IPAddress]
    ) -> None:
        self._hop, self._transaction, self._body, self._addresses = hop, transaction, body, addresses
        self._is_complete = False
        self._trouble: EmpathError | None = None

    async def run(self, time_left: Callable[[], float]) -> Handover:
        """Raises what the content and `before_commit` raise."""
        refusal: TransientRefusal
        try:
            async with asyncio.timeout(time_left()):
                return self._handover(await self._post())
        except TimeoutError:
            refusal = _timed_out("the answer" if self._is_complete else "the connection, or room to send")
        except aiohttp.ClientError as error:
            if self._trouble is not None:
                raise self._trouble from None
            refusal = _refusal_of(error, self._hop.site)
        outcome = Deferred(refusal.reply, refusal.reason)
        return self._handover(outcome, ambiguous=self._is_complete)

    def _handover(self, outcome: RecipientOutcome, *, ambiguous: bool = False) -> Handover:
        outcomes = dict.fromkeys(self._transaction.recipients, outcome)
        return Handover(outcomes, self._hop.site, self._tls, ambiguous)

    @property
    def _tls(self) -> str:
        """Version and cipher are not told by the library once an answer is read."""
        peer = URL(self._hop.settings.url).host or ""
        return str(TlsSession("TLS", "-", peer=peer, verification=VERIFIED))

    async def _post(self) -> RecipientOutcome:
        hop = self._hop
        connector = aiohttp.TCPConnector(resolver=_Known(self._addresses), force_close=True)
        timeout = aiohttp.ClientTimeout(
            total=None, connect=CONNECT, sock_connect=CONNECT, sock_read=hop.settings.timeout
        )
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session,
            session.post(
                hop.settings.url,
                data=self._pieces(),
                headers={**self._body.headers, "User-Agent": "Empath"},
                allow_redirects=False,
                ssl=hop.context or True,
            ) as answer,
        ):
            words = ""
            if answer.content_type == "text/plain":
                words = (await answer.content.read(MAX_ANSWER)).decode("utf-8", "replace")
            return outcome_of(
                answer.status,
                f"{answer.reason or ''}: {words.strip()}" if words.strip() else answer.reason or "",
                retry_after=answer.headers.get("Retry-After"),
                now=hop.clock.now(),
            )

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        """The body; its last piece is what may make the receiver take it."""
        try:
            held: bytes | None = None
            async for piece in self._body.pieces():
                if held is not None:
                    yield held
                held = piece
            if self._transaction.before_commit is not None:
                await self._transaction.before_commit()
        except EmpathError as trouble:
            self._trouble = trouble
            raise
        self._is_complete = True
        yield held or b""


def outcome_of(status: int, words: str, *, retry_after: str | None, now: datetime) -> RecipientOutcome:
    """2xx sent, 408, 425, 429 and 5xx deferred, everything else failed but 401 and redirects, which are
    matters of settings."""
    said = f"HTTP {status} {words}".strip()
    if 200 <= status < 300:
        return Sent(Reply.heard(250, f"2.0.0 {said}"))
    if status in _LATER or status >= 500:
        wait = seconds_of(retry_after, now)
        asks = "" if wait is None else f"; try again in {wait} seconds"
        return Deferred(Reply.heard(451, f"4.3.0 HTTP {status}{asks}; {words}"))
    if 300 <= status < 400:
        refusal = unusable(f"the URL answers with a redirect (HTTP {status}), and none is followed")
        return Deferred(refusal.reply, refusal.reason)
    if status == 401:  # RFC 9110 §15.5.2: it is about who posts, not about what
        refusal = unusable(
            f"the receiver refuses the signature; is the secret's key the one that it has? {said}"
        )
        return Deferred(refusal.reply, refusal.reason)
    if status == 413:
        return Failed(Reply.heard(552, f"5.3.4 {said}"), Reason.TOO_BIG)
    return Failed(Reply.heard(554, f"5.3.0 {said}"))


def seconds_of(retry_after: str | None, now: datetime) -> int | None:
    """Retry-After (RFC 9110 §10.2.3) in seconds from now; None when there is none that can be read."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return int(text[:9])
    try:
        until = parsedate_to_datetime(text)
        return max(0, round((until - now).total_seconds()))
    except (TypeError, ValueError):  # no date, or one without a zone
        return None


class _Known(AbstractResolver):
    """The addresses that were judged, whatever DNS says by now."""

    def __init__(self, addresses: Sequence[IPAddress]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            {
                "hostname": host,
                "host": str(address),
                "port": port,
                "family": socket.AF_INET if address.version == 4 else socket.AF_INET6,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _timed_out(step: str) -> TransientRefusal:
    reply = Reply.of(451, "4.4.2", f"Timed out while waiting for {step}")
    return TransientRefusal(reply, Reason.TIMEOUT)


def _refusal_of(error: aiohttp.ClientError, site: str) -> TransientRefusal:
    if isinstance(error, aiohttp.ClientSSLError):
        words = str(getattr(error, "certificate_error", None) or "handshake failure")
        reply = Reply.heard(451, f"4.7.5 TLS with {site} failed: {words}")
        return TransientRefusal(reply, Reason.TLS_FAILED)
    if isinstance(error, aiohttp.ClientConnectorError):
        reply = Reply.of(451, "4.4.1", f"Connection to {site} failed")
        return TransientRefusal(reply, Reason.CONNECTION_FAILED)
    reply = Reply.of(451, "4.4.2", f"Connection to {site} lost, or its answer is no HTTP")
    return TransientRefusal(reply, Reason.CONNECTION_LOST)
