"""Hooks: an operator's own code in the life of a session. What such code is made of is all in here.

    from empath.ingress.hooks import Message, Session, Verdict, hookimpl, refuse

    @hookimpl
    def rcpt(session, recipient):
        if recipient.mailbox.local_part == "former":
            return refuse(550, "5.1.1", "No longer with us")

`hooks_loading` finds it, `hooks_runner` calls it, `hooks_verdict` looks at what it returns;
docs/HOOKS.md tells the rules.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pluggy

from empath.domain.address import Mailbox
from empath.domain.envelope import Envelope, Priority, Recipient
from empath.domain.reply import Reply

PROJECT = "empath"
hookimpl = pluggy.HookimplMarker(PROJECT)
_hookspec = pluggy.HookspecMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class Session:
    """Who is at the other end, as far as it is known by now."""

    client: str | None = None
    """Its IP address."""
    helo: str | None = None
    tls: str | None = None
    """Protocol and cipher; None: in the clear."""
    user: str | None = None
    submission: bool = False
    """Whether this is a submission port."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What hooks have set by now. A copy: only a verdict sets anything."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is complete and not stored."""

    message_id: str
    received_at: datetime
    envelope: Envelope
    header_section: bytes
    """Byte-exact, without the empty line."""
    size: int
    """Octets of all the content."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a hook wants; nothing of it counts when `reply` is there."""

    reply: Reply | None = None
    """A refusal: 4xx or 5xx, with an enhanced code of that class. 421 ends the session."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Put to what is set already: of the session (connect, helo), the transaction (mail, rcpt) or the
    message. JSON values."""
    headers: Sequence[tuple[str, str]] = ()
    """Fields, name and value, to go in front of the message. Of `message` only, like the next two."""
    priority: Priority | None = None
    tenant: str | None = None


def refuse(code: int, enhanced: str, text: str) -> Verdict:
    """The verdict of `refuse(550, "5.7.1", "Not from there")`."""
    return Verdict(reply=Reply.of(code, enhanced, text))


Returned = Verdict | None | Awaitable[Verdict | None]


class Specs:
    """The hooks that there are. An implementation takes those of the arguments that it names."""

    @_hookspec
    def connect(self, session: Session) -> Returned:
        """A client has connected and waits for the greeting; `helo` and `user` are not known."""

    @_hookspec
    def helo(self, session: Session, name: str) -> Returned:
        """HELO or EHLO, again after STARTTLS."""

    @_hookspec
    def mail(self, session: Session, reverse_path: Mailbox | None) -> Returned:
        """MAIL, once the relay itself has nothing against it; None is the null reverse-path."""

    @_hookspec
    def rcpt(self, session: Session, reverse_path: Mailbox | None, recipient: Recipient) -> Returned:
        """RCPT, once the relay itself has nothing against it."""

    @_hookspec
    def message(self, session: Session, message: Message) -> Returned:
        """The content is complete; a refusal stores nothing."""


NAMES = ("connect", "helo", "mail", "rcpt", "message")
