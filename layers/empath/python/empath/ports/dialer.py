"""Connections to next hops, and the mail transaction on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from empath.domain.network import IPAddress, IPNetwork
from empath.domain.outcome import RecipientOutcome
from empath.domain.policy import TlsMode


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a next hop that wants to know (RFC 4954)."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of one host of a next hop, and how to talk to it."""

    host: str
    address: IPAddress
    port: int
    tls: TlsMode = "opportunistic"
    allow_addresses: tuple[IPNetwork, ...] = ()
    protocol: Literal["smtp", "lmtp"] = "smtp"
    implicit_tls: bool = False
    """TLS from the first octet on (RFC 8314 §3.3), whatever `tls` says about STARTTLS."""
    credentials: Credentials | None = None
    """Said in TLS only."""
    tls_name: str | None = None
    """Who the certificate has to be for where `tls` is `verified`; None: for `host`."""
    accept_invalid_certs: bool = False
    """Go on, with a warning, where a certificate that is looked at is not valid."""
    messages_per_connection: int = 100
    site: str = ""
    """The name by which gates count connections."""
    is_counted: bool = False
    """Whether the connections to the site are limited in number."""

    def __str__(self) -> str:
        return f"{self.host}[{self.address}]:{self.port}"


@dataclass(frozen=True, slots=True)
class Transaction:
    """One mail transaction (RFC 5321 §3.3)."""

    reverse_path: str
    """Without brackets; empty for the null reverse-path."""
    recipients: Sequence[str]
    content: Callable[[], AsyncIterator[bytes]]
    """A fresh pass over `prepend` and the raw message; raises what Spool.read raises."""
    size: int
    eight_bit: bool = False
    smtputf8: bool = False
    notify: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By recipient (RFC 3461 §4.1); told to a next hop that has DSN, like the three below."""
    orcpt: Mapping[str, str] = field(default_factory=dict)
    """By recipient (RFC 3461 §4.2)."""
    envid: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None
    name: str = ""
    """The same for every attempt at a delivery, and for no other one."""
    before_commit: Callable[[], Awaitable[None]] | None = None
    """Awaited before the octets that may make the next hop take the message, maybe more than once; what it
    raises ends the session, and the message was not sent."""


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """What became of every recipient of a transaction."""

    outcomes: Mapping[str, RecipientOutcome] = field(default_factory=dict)
    ambiguous: bool = False
    """The final dot may have reached the next hop and no reply to it came back."""
    passed_on: frozenset[str] = frozenset()
    """Recipients whose NOTIFY the next hop was told: their reports are its business (RFC 3461 §5.2.1)."""


class Channel(Protocol):
    """A session with a next hop after its greeting, EHLO and STARTTLS."""

    @property
    def tls(self) -> str | None:
        """A `domain.tls.TlsSession` as text, None without TLS."""

    @property
    def is_usable(self) -> bool:
        """Whether another transaction may begin, as far as is known without asking."""

    async def transact(self, transaction: Transaction, *, deadline: float | None = None) -> TransactionResult:
        """Send one message, as often as wanted. Network errors and replies become outcomes.

        With `deadline` everything on the session must end within so many seconds from now. Raises only
        SpoolTrouble and SpoolObjectMissing, out of `content`, and what `before_commit` raises; the message
        was not sent to anybody then.
        """

    async def reset(self, *, deadline: float | None = None) -> bool:
        """Ask the next hop by RSET whether it is still there: a channel that was idle may be dead."""

    async def close(self) -> None:
        """QUIT if the session still stands, and free the socket; never raises."""


class Dialer(Protocol):
    async def connect(self, endpoint: Endpoint, *, deadline: float) -> Channel:
        """Open a session; everything on it must end within `deadline` seconds from now.

        Raises TransientRefusal or PermanentRefusal: the connection failed, was lost, timed out or was
        greeted with a refusal; ADDRESS_NOT_ALLOWED for an address outside of the global Internet and
        of `allow_addresses`.
        """
