"""What a client did, told to the owner of a session, in the order in which it did it.

Events marked *decision* stop the session until the owner calls `accept` or `refuse`; input that the
client sent ahead (RFC 2920) waits. The others need nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from empath.domain.address import Mailbox
from empath.domain.envelope import Envelope, Recipient
from empath.domain.reply import Reply
from empath.smtp.extensions import MailParameters


@dataclass(frozen=True, slots=True)
class Helo:
    """*Decision.* HELO, or EHLO when `esmtp`; `name` is printable ASCII without spaces."""

    name: str
    esmtp: bool


@dataclass(frozen=True, slots=True)
class StartTls:
    """*Decision.* Once accepted: send the replies, do the handshake, and tell `tls_started`.

    What the client sent ahead of the handshake is gone by then (RFC 3207 §5 and CVE-2011-0411).
    """


@dataclass(frozen=True, slots=True)
class Authenticate:
    """*Decision.* Whether this is the user's password. Its text never shows the password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class MailFrom:
    """*Decision.* A transaction wants to begin; `reverse_path` None is the null one."""

    reverse_path: Mailbox | None
    parameters: MailParameters


@dataclass(frozen=True, slots=True)
class RcptTo:
    """*Decision.* One more recipient; whether it may be relayed to is for the owner to say."""

    recipient: Recipient


@dataclass(frozen=True, slots=True)
class MessageBegins:
    """*Decision.* DATA, or the first BDAT when `in_chunks`; content follows once it is accepted."""

    envelope: Envelope
    in_chunks: bool = False


@dataclass(frozen=True, slots=True)
class ContentChunk:
    """Octets of the message, transparency of DATA (RFC 5321 §4.5.2) undone; never empty."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class MessageBroken:
    """The message can no longer be accepted, or its client took it back; forget what came of it.

    Nothing more of it follows. The core swallows the rest and gives the reply itself.
    """


@dataclass(frozen=True, slots=True)
class MessageEnds:
    """*Decision.* The whole message is here; `size` in octets. A 250 takes responsibility for it."""

    size: int


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """The core answered with an error by itself: worth a line in the log, nothing else."""

    reply: Reply


class EndCause(Enum):
    QUIT = "quit"
    TOO_MANY_ERRORS = "too many errors"
    TOO_MUCH_INPUT = "too much input"
    BY_OWNER = "ended by the server"


@dataclass(frozen=True, slots=True)
class SessionEnds:
    """The last event: send the replies that are left, then close the connection."""

    cause: EndCause


Event = (
    Helo
    | StartTls
    | Authenticate
    | MailFrom
    | RcptTo
    | MessageBegins
    | ContentChunk
    | MessageBroken
    | MessageEnds
    | CommandRefused
    | SessionEnds
)
Decidable = Helo | StartTls | Authenticate | MailFrom | RcptTo | MessageBegins | MessageEnds
