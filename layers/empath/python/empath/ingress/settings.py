"""What a listener is told at its start. `empath.config.ingress` reads it from the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from empath.domain.network import IPNetwork
from empath.ingress.authentication import Authenticator
from empath.ingress.header_section import DEFAULT_LIMITS, HeaderLimits
from empath.ingress.hooks_runner import Hooks
from empath.ingress.priority_header import PriorityHeader
from empath.ingress.quotas import MessageQuotas
from empath.ingress.tls import Certificate
from empath.ports import Users
from empath.smtp.limits import KIB, MIB

LOOPBACK: tuple[IPNetwork, ...] = (
    ipaddress.IPv4Network("127.0.0.0/8"),
    ipaddress.IPv6Network("::1/128"),
)


class PortKind(Enum):
    """What a port is for."""

    RELAY = "relay"  # port 25, from other servers and from applications of allowed networks
    SUBMISSION = "submission"  # port 587, from users, after STARTTLS and AUTH (RFC 6409)
    SUBMISSIONS = "submissions"  # port 465, the same with TLS from the first octet (RFC 8314 §3.3)

    @property
    def is_submission(self) -> bool:
        return self is not PortKind.RELAY

    @property
    def is_implicit_tls(self) -> bool:
        return self is PortKind.SUBMISSIONS


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

    opening: float = 30
    """For a PROXY header to come, and for TLS to be negotiated."""

    authenticate: float = 30
    """For the authenticator to answer."""

    session: float = 1800
    """For everything, a message that is being stored aside."""

    linger: float = 2
    """For the client to read the last reply of a session that was not ended by its QUIT."""


@dataclass(frozen=True, slots=True)
class IngressSettings:
    host: str = "127.0.0.1"
    port: int | None = 2525
    """For relaying; 0 takes any free one, None opens none. So for the other two."""

    submission_port: int | None = None
    submissions_port: int | None = None

    hostname: str = "localhost"
    """Our name: in the greeting, in trace information, and for `<Postmaster>`."""

    networks: tuple[IPNetwork, ...] = LOOPBACK
    """Clients in these may relay to anywhere."""

    relay_domains: tuple[str, ...] = ()
    """To these anybody may; `.example` stands for all below it."""

    proxy_networks: tuple[IPNetwork, ...] = ()
    """Load balancers: who connects from here has to name its client in a PROXY header. From anywhere
    else such a header is a command that nobody knows."""

    tls: Certificate | None = None
    """What handshakes are made with; None: STARTTLS is not offered."""

    authenticator: Authenticator | None = None
    """Who knows the users' passwords; None: AUTH is not offered. It is offered within TLS only."""

    users: Users | None = None
    """Where the user is found that a client certificate names; None: certificates name nobody."""

    quotas: MessageQuotas | None = None
    """How many messages clients and users may send; None: as many as they like."""

    hooks: Hooks | None = None
    """The operator's own code; None: there is none, and it costs nothing."""

    priority_header: PriorityHeader | None = None
    """The header field that says a message's priority; None: none does."""

    max_size: int = 50 * MIB
    max_recipients: int = 1000
    """Of a message; told to clients as RCPTMAX."""

    max_messages: int = 10_000
    """Of a session; told to clients as MAILMAX. The next one is 421, and a new session is free to begin."""

    max_errors: int = 20

    min_data_rate: float = 500
    """Octets a second of content, in the long run (`pace` says how it is counted). Postfix's
    smtpd_min_data_rate."""

    max_connections: int = 5000
    max_connections_per_client: int = 200
    """Postfix allows 50 of 100 processes; a session here costs no process. Behind a load balancer that
    hides its clients all of them share this."""

    max_hops: int = 50
    """`Received` fields in a message that still passes. Postfix's hopcount_limit; RFC 5321 §6.3 says
    "normally at least 100", from days of longer ways: a loop costs its two ends money on each turn."""

    header_limits: HeaderLimits = DEFAULT_LIMITS

    reuse_port: bool = False
    """Whether other processes may listen on the same ports (SO_REUSEPORT)."""

    shutdown_grace: float = 30
    """Seconds that sessions in a transaction get to end it once the listener closes."""

    timeouts: Timeouts = Timeouts()

    @property
    def ports(self) -> Mapping[PortKind, int]:
        numbers = {
            PortKind.RELAY: self.port,
            PortKind.SUBMISSION: self.submission_port,
            PortKind.SUBMISSIONS: self.submissions_port,
        }
        return {kind: number for kind, number in numbers.items() if number is not None}


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    processes: int = 1
    """That listen on the same ports. With more than one there is a parent besides, to look after them."""

    health_host: str = "127.0.0.1"
    health_port: int | None = None
    """0 takes any free one; None opens none."""

    shutdown_delay: float = 0
    """Seconds between "not ready" and the end of listening."""


RECEIVE_BUFFER = 64 * KIB
"""Octets per read, in one buffer that all connections of an event loop share."""

MAX_INPUT_AHEAD = 64 * KIB
"""Octets that a client may send ahead of a decision before its socket is read no more."""

MAX_CONTENT_AHEAD = 128 * KIB
"""Octets of content that may wait for the spool before the socket is read no more."""
