"""One client's connection: octets between a socket and a session, its timers and its flow.

Everything runs in callbacks of the event loop; only a message that is being stored has a task. The
protocol is `smtp.server`'s, whether a recipient may be relayed to is `relay_policy`'s, and what becomes
of a message is `reception`'s business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from enum import Enum, Flag, auto
from typing import Any, cast

from empath.domain.envelope import Source
from empath.domain.reply import Reply
from empath.ingress import replies, tls
from empath.ingress.authentication import reply_for
from empath.ingress.connections import Connections
from empath.ingress.deadline import Deadline
from empath.ingress.reception import Reception
from empath.ingress.relay_policy import client_address
from empath.ingress.services import Services
from empath.ingress.settings import MAX_CONTENT_AHEAD, MAX_INPUT_AHEAD
from empath.ingress.trace import protocol_of, received_field
from empath.smtp import events
from empath.smtp.state import State

logger = logging.getLogger(__name__)


class Pause(Flag):
    """Why the socket is not read."""

    NOTHING = 0
    STORAGE = auto()  # content waits for the spool
    AHEAD = auto()  # input waits for a decision
    OUTPUT = auto()  # the client does not read its replies


class Phase(Enum):
    OPEN = auto()
    DRAINING = auto()  # ends at the end of its transaction
    LINGERING = auto()  # the last reply is sent; what still comes in is thrown away


class Connection(asyncio.BufferedProtocol):
    def __init__(self, services: Services, connections: Connections[Connection]) -> None:
        self._services = services
        self._connections = connections
        self._session = services.new_session()
        self._reception: Reception | None = None
        self._helo = events.Helo("", esmtp=False)
        self._paused = Pause.NOTHING
        self._input_is_over = False
        self._end_cause: events.EndCause | None = None
        self._phase = Phase.OPEN
        self._tls: str | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._early = b""
        self._authentication: asyncio.Task[None] | None = None

    # Callbacks of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # TCP_NODELAY is set already: asyncio and uvloop do that for every TCP connection.
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._client = client_address(transport.get_extra_info("peername"))
        self._client_text = str(self._client) if self._client else None
        self._is_trusted = self._services.policy.is_trusted(self._client)
        self._deadline = Deadline(self._loop, self._on_deadline)
        self._session_ends_at = self._loop.time() + self._services.settings.timeouts.session
        if self._connections.has_room_for(self._client):
            self._connections.add(self, self._client)
            self._session.greet()
        else:
            logger.warning("connection refused: too many", extra={"client": self._client_text})
            self._session.end(replies.TOO_MANY_CONNECTIONS)
        self._pump()
        if self._session.state is State.CLOSED:
            transport.close()  # without lingering: it is counted nowhere
            return
        self._expect(self._services.settings.timeouts.command)

    def get_buffer(self, sizehint: int) -> memoryview:
        # Shared by all connections: the loop reads and calls `buffer_updated` in one go, and what was
        # read is copied there. A buffer of its own per connection would cost memory for idle ones,
        # and asyncio's own of 256 KiB per read costs three system calls.
        return self._services.receive_buffer

    def buffer_updated(self, nbytes: int) -> None:
        octets = bytes(self._services.receive_buffer[:nbytes])
        if self._handshake is not None:
            # The socket itself is not read for us by now, so TLS gave this, one step before it gives the
            # transport: a client may send its EHLO right behind the end of its handshake.
            self._early += octets
            return
        self._session.receive(octets)
        if self._pump():
            timeouts = self._services.settings.timeouts
            in_content = self._session.is_in_content
            self._expect(timeouts.block if in_content else timeouts.command)
        if self._session.awaiting is not None and self._session.waiting_octets > MAX_INPUT_AHEAD:
            self._pause(Pause.AHEAD)

    def eof_received(self) -> bool:
        """Half a close: replies that are owed are still sent."""
        self._input_is_over = True
        return self._session.awaiting is not None and self._tls is None  # TLS has no half-closed state

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        for task in (self._handshake, self._authentication):
            if task is not None:
                task.cancel()
        self._connections.remove(self, self._client)
        if self._reception is not None:
            self._reception.abort("the client went away")  # a complete message is stored nevertheless

    def pause_writing(self) -> None:
        self._pause(Pause.OUTPUT)

    def resume_writing(self) -> None:
        self._resume(Pause.OUTPUT)

    # What the listener asks for

    def drain(self) -> None:
        """End the session as soon as no transaction is under way."""
        if self._phase is Phase.OPEN:
            self._phase = Phase.DRAINING
            self._pump()

    def end_now(self) -> None:
        """End the session, whatever is under way; what is not stored yet never will be."""
        if self._handshake is not None:
            self.abort()
            return
        if self._reception is not None:
            self._reception.give_up()
        self._drop_reception("shutting down")
        self._session.end(replies.SHUTTING_DOWN)
        self._pump()

    def abort(self) -> None:
        self._transport.abort()

    # Events of the session

    def _pump(self) -> bool:
        """Handle all events, send all replies; whether there was anything."""
        session, handlers = self._session, _HANDLERS
        moved = False
        while (event := session.next_event()) is not None:
            moved = True
            handlers[type(event)](self, event)
        if self._phase is Phase.DRAINING and session.state in _BETWEEN_TRANSACTIONS:
            session.end(replies.SHUTTING_DOWN)
            session.next_event()
        output = session.replies()
        if output:
            moved = True
            if not self._transport.is_closing():  # uvloop raises then, asyncio only warns
                self._transport.write(output)
        if session.state is State.HANDSHAKE and self._handshake is None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._handshake = self._loop.create_task(self._start_tls())
        if session.state is State.CLOSED or (self._input_is_over and session.awaiting is None):
            self._finish()
        return moved

    def _on_helo(self, event: events.Helo) -> None:
        self._helo = event
        self._session.accept()

    def _on_start_tls(self, event: events.StartTls) -> None:
        self._session.accept()

    async def _start_tls(self) -> None:
        settings = self._services.settings
        assert settings.tls is not None  # noqa: S101 (STARTTLS is offered with it only)
        try:
            transport = await tls.shake_hands(
                self._transport,
                self,
                settings.tls,
                handshake_timeout=settings.timeouts.handshake,
                shutdown_timeout=settings.timeouts.linger,
            )
        except (OSError, RuntimeError) as error:  # uvloop raises the second for a closed socket
            logger.info("TLS handshake failed: %s", error, extra={"client": self._client_text})
            self._handshake = None
            self._transport.abort()
            self.connection_lost(error)  # nobody else calls it for a handshake that failed
            return
        self._handshake = None
        self._transport, self._tls = transport, tls.describe(transport)
        self._paused = Pause.NOTHING
        self._helo = events.Helo("", esmtp=False)
        self._session.tls_started()
        early, self._early = self._early, b""
        self._session.receive(early)
        self._expect(settings.timeouts.command)
        self._pump()

    def _on_authenticate(self, event: events.Authenticate) -> None:
        self._authentication = self._loop.create_task(self._authenticate(event))

    async def _authenticate(self, event: events.Authenticate) -> None:
        settings = self._services.settings
        reply = await reply_for(event, settings.authenticator, settings.timeouts.authenticate)
        self._authentication = None
        if self._session.awaiting is event:  # or the session has ended meanwhile
            self._answer(reply)
            self._pump()
            self._resume(Pause.AHEAD)

    def _on_mail(self, event: events.MailFrom) -> None:
        self._session.accept()

    def _on_rcpt(self, event: events.RcptTo) -> None:
        refusal = self._services.policy.refusal(event.recipient.mailbox, client_is_trusted=self._is_trusted)
        if refusal is None:
            self._session.accept()
        else:
            self._log_refusal(refusal)
            self._session.refuse(refusal)

    def _on_message_begins(self, event: events.MessageBegins) -> None:
        services = self._services
        message_id, received_at = services.ids.new_id(), services.clock.now()
        self._reception = Reception(
            services,
            message_id=message_id,
            received_at=received_at,
            envelope=event.envelope,
            source=Source(
                client=self._client_text, helo=self._helo.name, user=self._session.user, tls=self._tls
            ),
            prepend=received_field(
                helo=self._helo.name,
                protocol=protocol_of(
                    esmtp=self._helo.esmtp,
                    smtputf8=event.envelope.smtputf8,
                    tls=self._tls is not None,
                    authenticated=self._session.user is not None,
                ),
                client=self._client,
                hostname=services.settings.hostname,
                message_id=message_id,
                recipients=event.envelope.recipients,
                at=received_at,
            ),
            on_taken=self._on_content_taken,
            on_done=self._on_reception_done,
        )
        self._session.accept()

    def _on_content(self, event: events.ContentChunk) -> None:
        reception = self._reception
        assert reception is not None  # noqa: S101 (an event of the core's own order)
        reception.feed(event.octets)
        if reception.waiting_octets > MAX_CONTENT_AHEAD and not reception.is_done:
            self._pause(Pause.STORAGE)

    def _on_broken(self, event: events.MessageBroken) -> None:
        self._drop_reception("it breaks a rule, or its client took it back")

    def _on_message_ends(self, event: events.MessageEnds) -> None:
        reception = self._reception
        assert reception is not None  # noqa: S101 (an event of the core's own order)
        reception.end()
        if reception.is_done:
            self._decide(reception)

    def _on_command_refused(self, event: events.CommandRefused) -> None:
        self._log_refusal(event.reply)

    def _on_session_ends(self, event: events.SessionEnds) -> None:
        self._end_cause = event.cause
        if event.cause is not events.EndCause.QUIT:
            logger.info("session ended: %s", event.cause.value, extra={"client": self._client_text})

    # The message

    def _on_content_taken(self) -> None:
        self._resume(Pause.STORAGE)

    def _on_reception_done(self, reception: Reception) -> None:
        if reception is not self._reception or self._transport.is_closing():
            return
        self._resume(Pause.STORAGE)
        if isinstance(self._session.awaiting, events.MessageEnds):
            self._decide(reception)
            self._pump()
            self._resume(Pause.AHEAD)
            self._expect(self._services.settings.timeouts.command)

    def _decide(self, reception: Reception) -> None:
        self._reception = None
        self._answer(reception.reply or replies.TROUBLE)

    def _answer(self, reply: Reply) -> None:
        if reply.is_positive:
            self._session.accept(reply)
        else:
            self._session.refuse(reply)

    def _drop_reception(self, why: str) -> None:
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.abort(why)
            self._resume(Pause.STORAGE)

    # Timers, flow and the end

    def _expect(self, seconds: float) -> None:
        """Something is to happen within `seconds`, or it was the last thing."""
        if self._session.state is State.CLOSED:
            return
        if self._is_storing:
            seconds = self._services.settings.timeouts.store
            self._deadline.set(self._loop.time() + seconds)
        else:
            self._deadline.set(min(self._loop.time() + seconds, self._session_ends_at))

    @property
    def _is_storing(self) -> bool:
        return isinstance(self._session.awaiting, events.MessageEnds) or Pause.STORAGE in self._paused

    def _on_deadline(self) -> None:
        if self._session.state in _SPEECHLESS:
            self._transport.abort()
        elif self._is_storing and self._reception is not None:
            self._reception.give_up()
        else:
            self._drop_reception("the client is too slow")
            self._session.end(replies.TIMED_OUT)
            self._pump()

    def _pause(self, reason: Pause) -> None:
        if not self._paused and not self._transport.is_closing():
            self._transport.pause_reading()
        self._paused |= reason

    def _resume(self, reason: Pause) -> None:
        if reason not in self._paused:
            return
        self._paused &= ~reason
        if reason is Pause.STORAGE:
            self._expect(self._services.settings.timeouts.block)
        if not self._paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def _finish(self) -> None:
        """Close; after an end that the client did not ask for so that it can read why, for a close
        with unread input would be a reset that takes the last reply with it."""
        if self._input_is_over or self._end_cause is events.EndCause.QUIT:
            self._transport.close()
        elif self._phase is not Phase.LINGERING and not self._transport.is_closing():
            self._phase = Phase.LINGERING
            try:
                if self._transport.can_write_eof():
                    self._transport.write_eof()
                else:
                    self._transport.close()  # TLS reads on by itself until the client has closed, too
            except OSError:  # the client has reset the connection, and the loop has not told yet
                self._transport.abort()
                return
            self._deadline.set(self._loop.time() + self._services.settings.timeouts.linger)

    def _log_refusal(self, reply: Reply) -> None:
        if logger.isEnabledFor(logging.INFO):
            fields = {"client": self._client_text, "helo": self._helo.name, "reply": str(reply)}
            logger.info("refused", extra=fields)


_SPEECHLESS = frozenset({State.HANDSHAKE, State.CLOSED})
"""States in which a client cannot be told that its time is over."""

_BETWEEN_TRANSACTIONS = frozenset({State.CONNECTED, State.GREETED, State.SPOILT})

_HANDLERS: Mapping[type[events.Event], Callable[[Connection, Any], None]] = {
    events.Helo: Connection._on_helo,
    events.StartTls: Connection._on_start_tls,
    events.Authenticate: Connection._on_authenticate,
    events.MailFrom: Connection._on_mail,
    events.RcptTo: Connection._on_rcpt,
    events.MessageBegins: Connection._on_message_begins,
    events.ContentChunk: Connection._on_content,
    events.MessageBroken: Connection._on_broken,
    events.MessageEnds: Connection._on_message_ends,
    events.CommandRefused: Connection._on_command_refused,
    events.SessionEnds: Connection._on_session_ends,
}
