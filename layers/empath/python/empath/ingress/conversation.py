"""What is decided about each event of a session: greetings, users, senders, recipients and messages.

What can be decided at once is; whatever takes time (a password, a hook, a quota in the store) has a task,
and the session waits. The socket and its timers are `connection`'s business, the protocol is `smtp.server`'s,
and what becomes of a message is `reception`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from empath.domain.address import Mailbox
from empath.domain.envelope import Source
from empath.domain.errors import ControlTrouble, InvalidUser
from empath.domain.reply import Reply
from empath.domain.user import user_name
from empath.ingress import replies
from empath.ingress.authentication import authenticate
from empath.ingress.flow import Pause
from empath.ingress.hooks_runner import SessionHooks
from empath.ingress.peer import Peer
from empath.ingress.quotas import MessageQuotas
from empath.ingress.reception import Reception
from empath.ingress.services import Services
from empath.ingress.settings import MAX_CONTENT_AHEAD, PortKind
from empath.ingress.trace import protocol_of, received_field
from empath.smtp import events
from empath.smtp.server import ServerSession

logger = logging.getLogger(__name__)


class Owner(Protocol):
    """The connection that a conversation is held on."""

    def pause(self, reason: Pause) -> None:
        """Read no more of the socket."""

    def resume(self, reason: Pause) -> None:
        """Read on, if that was the last reason not to."""

    def opened(self, refusal: Reply | None) -> None:
        """Greet the client, or refuse it."""

    def decided(self) -> None:
        """What the session waited for is there; say it, and go on with what the client sent ahead."""

    @property
    def is_closing(self) -> bool:
        """Nobody hears an answer any more."""


class Nobody:
    """Holds a conversation whose client has left."""

    is_closing = True

    def pause(self, reason: Pause) -> None:
        """There is no socket."""

    def resume(self, reason: Pause) -> None:
        """There is no socket."""

    def opened(self, refusal: Reply | None) -> None:
        """There is nobody to be greeted."""

    def decided(self) -> None:
        """There is nobody to be told."""


_NOBODY = Nobody()


class Conversation:
    __slots__ = (
        "_decision",
        "_helo",
        "_hooks",
        "_owner",
        "_port",
        "_reception",
        "_reverse_path",
        "_services",
        "_session",
        "_wrong_passwords",
        "end_cause",
        "peer",
    )

    def __init__(self, services: Services, session: ServerSession, port: PortKind, owner: Owner) -> None:
        self.peer = Peer()
        self.end_cause: events.EndCause | None = None
        self._services = services
        self._session = session
        self._port = port
        self._owner = owner
        self._helo = _NOT_GREETED
        self._reverse_path: Mailbox | None = None
        self._reception: Reception | None = None
        self._hooks: SessionHooks | None = None
        if services.hooks is not None:
            self._hooks = SessionHooks(services.hooks, services.metrics, submission=port.is_submission)
        self._wrong_passwords = 0
        self._decision: asyncio.Task[None] | None = None

    def handle(self, event: events.Event) -> None:
        """Decide, or see to it that it is decided later."""
        _HANDLERS[type(event)](self, event)

    @property
    def is_storing(self) -> bool:
        """A message waits for the spool or the queue, not for its client."""
        return isinstance(self._session.awaiting, events.MessageEnds)

    def opened(self) -> None:
        """The client is connected; whether it is greeted is decided here."""
        hooks = self._hook("connect")
        if hooks is None:
            self._owner.opened(None)
        else:
            self._decision = asyncio.get_running_loop().create_task(self._ask_whether_to_greet(hooks))

    async def _ask_whether_to_greet(self, hooks: SessionHooks) -> None:
        refusal = await _settled(hooks.connect(self._source()))
        self._decision = None
        self._owner.opened(refusal)

    async def identify(self, name: str | None) -> None:
        """Take the client for the user that its certificate names, if there is one."""
        settings = self._services.settings
        if name is None or settings.users is None:
            return
        try:
            async with asyncio.timeout(settings.timeouts.authenticate):
                user = await settings.users.user(user_name(name))
        except (ControlTrouble, InvalidUser, TimeoutError) as error:
            # It is a client like any other then, which may authenticate or try again later.
            fields = {"client": self.peer.text, "user": name, "error": type(error).__name__}
            logger.error("no answer about the user of a client certificate", extra=fields)
            return
        if user is not None and not user.is_revoked:
            self.peer.user = user

    def began_anew(self) -> None:
        """TLS has started: what was said in the clear is forgotten (RFC 3207 §4.2)."""
        self._helo = _NOT_GREETED

    def give_up_storing(self) -> bool:
        """The client waits for too long; it is told 451 even if the store may come to an end yet."""
        if self._reception is None:
            return False
        self._reception.give_up()
        return True

    def drop_message(self, why: str) -> None:
        """The message that comes in will never be complete."""
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.abort(why)
            self._owner.resume(Pause.STORAGE)

    def client_left(self) -> None:
        if self._decision is not None:
            self._decision.cancel()
        if self._reception is not None:
            self._reception.abort("the client went away")  # a complete message is stored nevertheless
        self._owner = _NOBODY  # no cycle of references, see `Deadline.cancel`

    # Decisions

    def _answer(self, reply: Reply | None) -> None:
        """None is the session's own positive reply."""
        if reply is None or reply.is_positive:
            self._session.accept(reply)
        else:
            self._refuse(reply)

    def _decide_later(self, event: events.Decidable, decision: Coroutine[Any, Any, Reply | None]) -> None:
        loop = asyncio.get_running_loop()
        self._decision = loop.create_task(self._await_decision(event, decision))

    async def _await_decision(
        self, event: events.Decidable, decision: Coroutine[Any, Any, Reply | None]
    ) -> None:
        reply = await _settled(decision)
        self._decision = None
        if self._session.awaiting is event:  # or the session has ended meanwhile
            self._answer(reply)
            self._owner.decided()

    def _hook(self, name: str) -> SessionHooks | None:
        """Whoever is to be asked, too; mostly nobody."""
        return self._hooks if self._hooks is not None and self._hooks.has(name) else None

    def _on_helo(self, event: events.Helo) -> None:
        self._helo = event
        hooks = self._hook("helo")
        if hooks is None:
            self._session.accept()
        else:
            self._decide_later(event, hooks.helo(self._source(), event.name))

    def _on_start_tls(self, event: events.StartTls) -> None:
        self._session.accept()

    def _on_authenticate(self, event: events.Authenticate) -> None:
        self._decide_later(event, self._authenticated(event))

    async def _authenticated(self, event: events.Authenticate) -> Reply:
        services, peer = self._services, self.peer
        if services.auth_failures.is_shut_out(peer.address, self._now()):
            return replies.TOO_MANY_AUTH_FAILURES
        settings = services.settings
        reply, user = await authenticate(event, settings.authenticator, settings.timeouts.authenticate)
        if user is not None:
            peer.user = user
        elif reply.is_permanent:
            self._wrong_passwords += 1
            penalty = services.auth_failures.failed(
                peer.address,
                in_session=self._wrong_passwords,
                now=self._now(),
                guess=f"{event.user}\0{event.password}",
            )
            logger.warning("authentication failed", extra={"client": peer.text, "user": event.user})
            services.metrics.count("auth_failed")
            await services.clock.sleep(penalty.delay)
            if penalty.ends_session:
                return replies.TOO_MANY_AUTH_FAILURES
        return reply

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _on_mail(self, event: events.MailFrom) -> None:
        user = self.peer.user
        if user is not None and not user.may_send_from(event.reverse_path):
            self._refuse(replies.NOT_YOUR_ADDRESS)
            return
        self._reverse_path = event.reverse_path
        if self._hooks is not None:
            self._hooks.transaction_begins()
        quotas, hooks = self._services.settings.quotas, self._hook("mail")
        is_within = quotas is None or quotas.take_local(client=self.peer.address, user=user)
        if is_within and hooks is None:
            self._session.accept()
        else:
            self._decide_later(event, self._mail_refusal(event, None if is_within else quotas, hooks))

    async def _mail_refusal(
        self, event: events.MailFrom, quotas: MessageQuotas | None, hooks: SessionHooks | None
    ) -> Reply | None:
        refusal = None
        if quotas is not None:
            refusal = await quotas.refusal(client=self.peer.address, user=self.peer.user)
        if refusal is None and hooks is not None:
            refusal = await hooks.mail(self._source(), event.reverse_path)
        return refusal

    def _on_rcpt(self, event: events.RcptTo) -> None:
        peer = self.peer
        refusal = self._services.policy.refusal(
            event.recipient.mailbox, may_relay=peer.is_trusted or peer.user is not None
        )
        hooks = self._hook("rcpt")
        if refusal is not None:
            self._refuse(refusal)
        elif hooks is None:
            self._session.accept()
        else:
            self._decide_later(event, hooks.rcpt(self._source(), self._reverse_path, event.recipient))

    def _refuse(self, reply: Reply) -> None:
        self._log_refusal(reply)
        self._session.refuse(reply)

    def _source(self) -> Source:
        peer = self.peer
        user = None if peer.user is None else peer.user.name
        return Source(client=peer.text, helo=self._helo.name, user=user, tls=peer.tls)

    # The message

    def _on_message_begins(self, event: events.MessageBegins) -> None:
        services, peer = self._services, self.peer
        message_id, received_at = services.ids.new_id(), services.clock.now()
        self._reception = Reception(
            services,
            message_id=message_id,
            received_at=received_at,
            envelope=event.envelope,
            source=self._source(),
            prepend=received_field(
                helo=self._helo.name,
                protocol=protocol_of(
                    esmtp=self._helo.esmtp,
                    smtputf8=event.envelope.smtputf8,
                    tls=peer.tls is not None,
                    authenticated=self._session.user is not None,
                ),
                client=peer.address,
                hostname=services.settings.hostname,
                message_id=message_id,
                recipients=event.envelope.recipients,
                at=received_at,
            ),
            on_taken=self._on_content_taken,
            on_done=self._on_reception_done,
            is_submission=self._port.is_submission,
            user=peer.user,
            is_trusted=peer.is_trusted,
            hooks=self._hooks,
        )
        self._session.accept()

    def _on_content(self, event: events.ContentChunk) -> None:
        reception = self._reception
        assert reception is not None  # noqa: S101 (an event of the core's own order)
        reception.feed(event.octets)
        if reception.waiting_octets > MAX_CONTENT_AHEAD and not reception.is_done:
            self._owner.pause(Pause.STORAGE)

    def _on_broken(self, event: events.MessageBroken) -> None:
        self.drop_message("it breaks a rule, or its client took it back")

    def _on_message_ends(self, event: events.MessageEnds) -> None:
        reception = self._reception
        assert reception is not None  # noqa: S101 (an event of the core's own order)
        reception.end()
        if reception.is_done:
            self._conclude(reception)

    def _on_content_taken(self) -> None:
        self._owner.resume(Pause.STORAGE)

    def _on_reception_done(self, reception: Reception) -> None:
        if reception is not self._reception or self._owner.is_closing:
            return
        self._owner.resume(Pause.STORAGE)
        if self.is_storing:
            self._conclude(reception)
            self._owner.decided()

    def _conclude(self, reception: Reception) -> None:
        self._reception = None
        self._answer(reception.reply or replies.TROUBLE)

    # What is only noted

    def _on_command_refused(self, event: events.CommandRefused) -> None:
        self._log_refusal(event.reply)

    def _on_session_ends(self, event: events.SessionEnds) -> None:
        self.end_cause = event.cause
        if event.cause is not events.EndCause.QUIT:
            logger.info("session ended: %s", event.cause.value, extra={"client": self.peer.text})

    def _log_refusal(self, reply: Reply) -> None:
        if logger.isEnabledFor(logging.INFO):
            fields = {"client": self.peer.text, "helo": self._helo.name, "reply": str(reply)}
            logger.info("refused", extra=fields)


async def _settled(decision: Coroutine[Any, Any, Reply | None]) -> Reply | None:
    try:
        return await decision
    except Exception:  # whatever it is: the client hears 451 and the listener lives on
        logger.exception("no decision: unexpected error")
        return replies.TROUBLE


_NOT_GREETED = events.Helo("", esmtp=False)

_HANDLERS: Mapping[type[events.Event], Callable[[Conversation, Any], None]] = {
    events.Helo: Conversation._on_helo,
    events.StartTls: Conversation._on_start_tls,
    events.Authenticate: Conversation._on_authenticate,
    events.MailFrom: Conversation._on_mail,
    events.RcptTo: Conversation._on_rcpt,
    events.MessageBegins: Conversation._on_message_begins,
    events.ContentChunk: Conversation._on_content,
    events.MessageBroken: Conversation._on_broken,
    events.MessageEnds: Conversation._on_message_ends,
    events.CommandRefused: Conversation._on_command_refused,
    events.SessionEnds: Conversation._on_session_ends,
}
