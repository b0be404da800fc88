"""One client's connection: octets between a socket and a session, its beginning, its timers and its end.

    PROXY header, TLS (where a port has them) -> greeting -> events of the session ... -> last reply -> close

Everything runs in callbacks of the event loop. The protocol is `smtp.server`'s, and what is decided about
its events `conversation`'s business.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from typing import cast

from empath.domain.network import IPAddress
from empath.domain.reply import Reply
from empath.ingress import replies, tls
from empath.ingress.connections import Connections
from empath.ingress.conversation import Conversation
from empath.ingress.deadline import Deadline
from empath.ingress.flow import Flow, Pause
from empath.ingress.pace import Pace
from empath.ingress.proxy import ProxyFault, ProxyReader
from empath.ingress.relay_policy import client_address
from empath.ingress.services import Services
from empath.ingress.settings import MAX_INPUT_AHEAD, PortKind
from empath.smtp import events
from empath.smtp.state import State

logger = logging.getLogger(__name__)


class Phase(Enum):
    PROXY = auto()  # a load balancer is to say who its client is
    OPENING = auto()  # before the greeting
    OPEN = auto()
    DRAINING = auto()  # ends at the end of its transaction
    LINGERING = auto()  # the last reply is sent; what still comes in is thrown away


class Connection(asyncio.BufferedProtocol):
    __slots__ = (
        "_ahead",
        "_connections",
        "_conversation",
        "_deadline",
        "_early",
        "_flow",
        "_handshake",
        "_input_is_over",
        "_loop",
        "_pace",
        "_phase",
        "_port",
        "_proxy",
        "_services",
        "_session",
        "_session_ends_at",
    )

    def __init__(self, services: Services, port: PortKind, connections: Connections[Connection]) -> None:
        self._services = services
        self._port = port
        self._connections = connections
        self._session = services.new_session(port)
        self._conversation = Conversation(services, self._session, port, self)
        self._proxy: ProxyReader | None = None
        self._pace: Pace | None = None
        self._input_is_over = False
        self._phase = Phase.OPENING
        self._handshake: asyncio.Task[None] | None = None
        self._ahead = bytearray()
        self._early = b""

    # Callbacks of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._flow = Flow(cast(asyncio.Transport, transport))
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(self._loop, self._on_deadline)
        settings = self._services.settings
        self._session_ends_at = self._loop.time() + settings.timeouts.session
        address = client_address(transport.get_extra_info("peername"))
        if not self._connections.add(self):
            self._turn_away(address)
        elif self._services.speaks_for_others(address):
            self._phase = Phase.PROXY
            self._proxy = ProxyReader()
            self._expect(settings.timeouts.opening)
        else:
            self._begin(address)

    def get_buffer(self, sizehint: int) -> memoryview:
        # Shared by all connections: the loop reads and calls `buffer_updated` in one go, and what was
        # read is copied there. A buffer of its own per connection would cost memory for idle ones,
        # and asyncio's own of 256 KiB per read costs three system calls.
        if self._proxy is not None:
            return self._services.receive_buffer[: self._proxy.wanted]
        return self._services.receive_buffer

    def buffer_updated(self, nbytes: int) -> None:
        octets = bytes(self._services.receive_buffer[:nbytes])
        if self._proxy is not None:
            self._read_proxy_header(self._proxy, octets)
            return
        if self._handshake is not None:
            if self._flow.transport.get_protocol() is self:
                self._ahead += octets  # of the socket still, which uvloop goes on reading after its beginning
            else:
                # From TLS, one step before it gives the transport: a client may send its EHLO right behind
                # the end of its handshake.
                self._early += octets
                if len(self._early) > MAX_INPUT_AHEAD and self._conversation.peer.tls is not None:
                    self._flow.pause(Pause.AHEAD)  # it waits for us to learn whose certificate that is
            return
        session = self._session
        session.receive(octets)
        if self._phase is Phase.OPENING:  # it talks before it was greeted; that waits
            if session.waiting_octets > MAX_INPUT_AHEAD:
                self._flow.pause(Pause.AHEAD)
            return
        if self._pump():
            if session.is_in_content:
                self._expect_content(nbytes)
            else:
                self._pace = None
                self._expect(self._services.settings.timeouts.command)
        if session.awaiting is not None and session.waiting_octets > MAX_INPUT_AHEAD:
            self._flow.pause(Pause.AHEAD)

    def eof_received(self) -> bool:
        """Half a close: replies that are owed are still sent."""
        self._input_is_over = True
        # TLS has no half-closed state
        return self._session.awaiting is not None and self._conversation.peer.tls is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        if self._handshake is not None:
            self._handshake.cancel()
        self._connections.remove(self)
        self._conversation.client_left()

    def pause_writing(self) -> None:
        self._flow.pause(Pause.OUTPUT)

    def resume_writing(self) -> None:
        self._flow.resume(Pause.OUTPUT)

    # What the listener asks for

    def drain(self) -> None:
        """End the session as soon as no transaction is under way."""
        if self._phase is Phase.PROXY or (self._phase is Phase.OPENING and self._handshake is not None):
            self._flow.abort()  # nobody said anything yet, and nothing can be told
        elif self._phase in {Phase.OPENING, Phase.OPEN}:
            self._phase = Phase.DRAINING
            self._pump()

    def end_now(self) -> None:
        """End the session, whatever is under way; what is not stored yet never will be."""
        if self._handshake is not None:
            self._flow.abort()
            return
        self._conversation.give_up_storing()
        self._conversation.drop_message("shutting down")
        self._end(replies.SHUTTING_DOWN)

    def abort(self) -> None:
        self._flow.abort()

    # The beginning

    def _read_proxy_header(self, proxy: ProxyReader, octets: bytes) -> None:
        try:
            proxy.feed(octets)
        except ProxyFault as fault:
            logger.warning("connection dropped: %s", fault, extra={"client": self._peer_name()})
            self._flow.abort()
            return
        if proxy.is_done:
            self._proxy, self._phase = None, Phase.OPENING
            self._begin(proxy.client)

    def _begin(self, address: IPAddress | None) -> None:
        """The client is known."""
        peer = self._conversation.peer
        peer.address, peer.is_trusted = address, self._services.policy.is_trusted(address)
        if not self._connections.count_for(self, address):
            self._turn_away(address)
        elif self._port.is_implicit_tls:
            self._shake_hands()
            self._expect(self._services.settings.timeouts.opening)
        else:
            self._conversation.opened()

    def _turn_away(self, address: IPAddress | None) -> None:
        fields = {"client": None if address is None else str(address)}
        logger.warning("connection refused: too many", extra=fields)
        if self._port.is_implicit_tls:
            self._flow.abort()  # a handshake for a 421 is what an attacker would like
            return
        self._session.end(replies.TOO_MANY_CONNECTIONS)
        self._flow.write(self._session.replies())
        self._flow.close()  # without lingering: it is counted nowhere

    def opened(self, refusal: Reply | None) -> None:
        """The client may be greeted, or not."""
        if self._session.state is State.CLOSED:
            return
        if self._phase is Phase.OPENING:
            self._phase = Phase.OPEN
        if refusal is None:
            self._session.greet()
        else:
            self._session.end(refusal)
        self._pump()
        self._flow.resume(Pause.AHEAD)
        self._expect(self._services.settings.timeouts.command)

    # Octets and events

    def _pump(self) -> bool:
        """Handle all events, send all replies; whether there was anything."""
        session, conversation = self._session, self._conversation
        moved = False
        while (event := session.next_event()) is not None:
            moved = True
            conversation.handle(event)
        if self._phase is Phase.DRAINING and session.state in _BETWEEN_TRANSACTIONS:
            session.end(replies.SHUTTING_DOWN)
            session.next_event()
        output = session.replies()
        if output:
            moved = True
            self._flow.write(output)
        if session.state is State.HANDSHAKE and self._handshake is None and not self._flow.is_closing:
            self._shake_hands()
        if session.state is State.CLOSED or (self._input_is_over and session.awaiting is None):
            self._finish()
        return moved

    def pause(self, reason: Pause) -> None:
        self._flow.pause(reason)

    def resume(self, reason: Pause) -> None:
        if self._flow.resume(reason) and reason is Pause.STORAGE:
            self._pace = None
            self._expect(self._services.settings.timeouts.block)

    def decided(self) -> None:
        self._pump()
        self._flow.resume(Pause.AHEAD)
        self._expect(self._services.settings.timeouts.command)

    @property
    def is_closing(self) -> bool:
        return self._flow.is_closing

    # TLS

    def _shake_hands(self) -> None:
        self._flow.stop_reading()
        self._handshake = self._loop.create_task(self._start_tls_safely())

    async def _start_tls_safely(self) -> None:
        try:
            await self._start_tls()
        except Exception:  # whatever it is: this connection ends, and no other
            logger.exception(
                "no session over TLS: unexpected error", extra={"client": self._conversation.peer.text}
            )
            self._handshake = None
            self._flow.abort()

    async def _start_tls(self) -> None:
        settings, peer = self._services.settings, self._conversation.peer
        assert settings.tls is not None  # noqa: S101 (no handshake is offered without)
        try:
            transport = await tls.shake_hands(
                self._flow.transport,
                self,
                settings.tls.context,
                handshake_timeout=settings.timeouts.opening,
                shutdown_timeout=settings.timeouts.linger,
                ahead=self._ahead if self._phase is Phase.OPENING else None,
            )
        except (OSError, RuntimeError) as error:  # uvloop raises the second for a closed socket
            logger.info("TLS handshake failed: %s", error, extra={"client": peer.text})
            self._handshake = None
            self._flow.abort()
            self.connection_lost(error)  # nobody else calls it for a handshake that failed
            return
        self._flow.use(transport)
        peer.tls = tls.describe(transport)
        self._conversation.began_anew()
        await self._conversation.identify(tls.client_identity(transport))
        self._handshake = None
        early, self._early = self._early, b""
        if self._phase is Phase.OPENING:
            self._session.secured(is_identified=peer.user is not None)
            self._session.receive(early)
            self._conversation.opened()
            return
        self._session.tls_started(is_identified=peer.user is not None)
        self._session.receive(early)
        self.decided()

    # Timers and the end

    def _expect(self, seconds: float) -> None:
        """Something is to happen within `seconds`, or it was the last thing."""
        self._expect_at(self._loop.time() + seconds)

    def _expect_content(self, octets: int) -> None:
        """The client goes on, and not too slowly."""
        now = self._loop.time()
        pace = self._pace
        if pace is None:
            settings = self._services.settings
            pace = self._pace = Pace(now, block=settings.timeouts.block, min_rate=settings.min_data_rate)
        self._expect_at(pace.received(octets, now))

    def _expect_at(self, at: float) -> None:
        if self._session.state is State.CLOSED:
            return
        if self._is_storing:
            self._deadline.set(self._loop.time() + self._services.settings.timeouts.store)
        else:
            self._deadline.set(min(at, self._session_ends_at))

    @property
    def _is_storing(self) -> bool:
        return Pause.STORAGE in self._flow.paused or self._conversation.is_storing

    def _on_deadline(self) -> None:
        if self._phase in _BEFORE_GREETING or self._session.state in _SPEECHLESS:
            self._flow.abort()
        elif not (self._is_storing and self._conversation.give_up_storing()):
            self._conversation.drop_message("the client is too slow")
            self._end(replies.TIMED_OUT)

    def _end(self, reply: Reply) -> None:
        self._session.end(reply)
        self._pump()

    def _finish(self) -> None:
        """Close; after an end that the client did not ask for so that it can read why."""
        if self._input_is_over or self._conversation.end_cause is events.EndCause.QUIT:
            self._flow.close()
        elif self._phase is not Phase.LINGERING and not self._flow.is_closing:
            self._phase = Phase.LINGERING
            if self._flow.half_close():
                self._deadline.set(self._loop.time() + self._services.settings.timeouts.linger)

    def _peer_name(self) -> str:
        return str(client_address(self._flow.transport.get_extra_info("peername")))


_BEFORE_GREETING = frozenset({Phase.PROXY, Phase.OPENING})

_SPEECHLESS = frozenset({State.HANDSHAKE, State.CLOSED})
"""States in which a client cannot be told that its time is over."""

_BETWEEN_TRANSACTIONS = frozenset({State.CONNECTED, State.GREETED, State.SPOILT})
