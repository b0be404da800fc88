"""What a listener is told at its start. `empath.config` reads it from the environment."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass

from empath.domain.network import IPNetwork
from empath.ingress.authentication import Authenticator
from empath.smtp.limits import KIB, MIB

LOOPBACK: tuple[IPNetwork, ...] = (
    ipaddress.IPv4Network("127.0.0.0/8"),
    ipaddress.IPv6Network("::1/128"),
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, per state of a session."""

    command: float = 300
    """For a whole command, so that a trickle does not count (RFC 5321 §4.5.3.2.7)."""

    block: float = 180
    """Between two pieces of content (RFC 5321 §4.5.3.2.5)."""

    store: float = 540
    """For the spool and the queue to answer; less than the 600 that a client waits after its final
    dot (RFC 5321 §4.5.3.2.6), so that it hears 451 and does not guess."""

    handshake: float = 30
    """For TLS to be negotiated."""

    authenticate: float = 30
    """For the authenticator to answer."""

    session: float = 1800
    """For everything, a message that is being stored aside."""

    linger: float = 2
    """For the client to read the last reply of a session that was not ended by its QUIT."""


@dataclass(frozen=True, slots=True)
class IngressSettings:
    host: str = "127.0.0.1"
    port: int = 2525
    """0 takes any free one."""

    hostname: str = "localhost"
    """Our name: in the greeting, in trace information, and for `<Postmaster>`."""

    networks: tuple[IPNetwork, ...] = LOOPBACK
    """Clients in these may relay to anywhere; nobody else to anybody."""

    tls: ssl.SSLContext | None = None
    """What STARTTLS is answered with; None: it is not offered."""

    authenticator: Authenticator | None = None
    """Who knows the users' passwords; None: AUTH is not offered. It is offered within TLS only."""

    max_size: int = 50 * MIB
    max_recipients: int = 1000
    """Of a message; told to clients as RCPTMAX."""

    max_messages: int = 10_000
    """Of a session; told to clients as MAILMAX. The next one is 421, and a new session is free to begin."""

    max_errors: int = 20
    max_connections: int = 5000
    max_connections_per_client: int = 200
    """Postfix allows 50 of 100 processes; a session here costs no process. Behind a load balancer that
    hides its clients all of them share this."""

    max_hops: int = 50
    """`Received` fields in a message that still passes. Postfix's hopcount_limit; RFC 5321 §6.3 says
    "normally at least 100", from days of longer ways: a loop costs its two ends money on each turn."""

    shutdown_grace: float = 30
    """Seconds that sessions in a transaction get to end it once the listener closes."""

    timeouts: Timeouts = Timeouts()


RECEIVE_BUFFER = 64 * KIB
"""Octets per read, in one buffer that all connections of an event loop share."""

MAX_INPUT_AHEAD = 64 * KIB
"""Octets that a client may send ahead of a decision before its socket is read no more."""

MAX_CONTENT_AHEAD = 128 * KIB
"""Octets of content that may wait for the spool before the socket is read no more."""
