"""A real SMTP server that does what a script says and keeps what it was sent, byte for byte.

    script = {
        "RCPT bob@example.test": "550 5.1.1 Unknown",       # this recipient
        "RCPT @slow.test": STALL,                           # every recipient of a domain
        "message": ["451 4.7.1 Greylisted", DROP],          # first message, second message, then as usual
    }
    async with SmtpSink(script) as sink:
        ... connect to sink.port ...
    assert sink.accepted[0].content == b"Subject: x\r\n\r\n"

Stages: `connect EHLO HELO STARTTLS handshake MAIL RCPT DATA BDAT content message RSET NOOP QUIT pipelined`.
`pipelined` is any command that did not wait for the reply to the one before, `BDAT` every chunk, `content`
the first block of content that is not its end, `message` the final dot or the octets of `BDAT LAST`,
`handshake` the moment when TLS would begin. It is built on nothing of this project's own SMTP, so that
both cannot be wrong in the same way.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from typing import Self

from empath.testing.smtp_sink_conversation import BLOCK, Conversation, Over
from empath.testing.smtp_sink_script import (
    DEAF,
    DROP,
    RESET,
    STALL,
    TAKE_AND_DROP,
    TAKE_AND_STALL,
    Act,
    Script,
    Session,
    SinkMessage,
    Step,
    class_of,
)

__all__ = [
    "DEAF",
    "DROP",
    "EXTENSIONS",
    "RESET",
    "STALL",
    "TAKE_AND_DROP",
    "TAKE_AND_STALL",
    "Act",
    "Script",
    "Session",
    "SinkMessage",
    "SmtpSink",
    "Step",
]

EXTENSIONS = ("PIPELINING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES")


class SmtpSink:
    conversation: type[Conversation] = Conversation

    def __init__(
        self,
        script: Script | None = None,
        *,
        hostname: str = "mx.sink.test",
        extensions: tuple[str, ...] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        history: int | None = None,
        latency: float = 0.0,
        splits: bool = False,
        unknown: Iterable[str] = (),
    ) -> None:
        """`history` bounds the sessions that are remembered, for a server that runs for long.

        `latency` in seconds goes before every batch of replies, with `splits` they go out octet by octet,
        and commands in `unknown` are not known, whatever `extensions` offer.
        """
        self.script = {
            stage: list(step) if isinstance(step, list) else step for stage, step in (script or {}).items()
        }
        self.hostname = hostname
        self.extensions = extensions
        self.tls = tls
        self.latency = latency
        self.splits = splits
        self.unknown = frozenset(unknown)
        self.port = 0
        self.sessions: deque[Session] = deque(maxlen=history)
        self.connections = 0
        self.messages: list[SinkMessage] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def accepted(self) -> list[SinkMessage]:
        return [message for message in self.messages if message.accepted]

    async def start(
        self, host: str = "127.0.0.1", port: int = 0, *, implicit: ssl.SSLContext | None = None
    ) -> Self:
        """Listen, with `implicit` in TLS from the first octet on; OSError when the port is in use."""
        self._server = await asyncio.start_server(
            self._serve, host, port, limit=BLOCK, backlog=1024, ssl=implicit
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Stop listening and drop every session."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def act(self, stage: str, argument: str, session: Session) -> Act | None:
        """What to do at a stage, None for the usual; a subclass may decide otherwise.

        `argument` is the path of MAIL and RCPT, else what follows the command.
        """
        domain = argument.rpartition("@")[2]
        for key in (f"{stage} {argument}", f"{stage} @{domain}", stage):
            step = self.script.get(key)
            if isinstance(step, list):
                step = step.pop(0) if step else None
            if step is not None:
                return step if isinstance(step, Act) else Act(step)
        return None

    async def take(self, session: Session, content: bytes) -> Act | None:
        """Keep a complete message and say what to do about it; a subclass may file it elsewhere."""
        act = await self.act("message", "", session)
        self.messages.append(
            SinkMessage(
                reverse_path=session.reverse_path or "",
                recipients=tuple(session.recipients),
                parameters=session.parameters,
                content=content,
                accepted=act is None or act.takes or class_of(act) == "2",
                rcpt_parameters=tuple(session.rcpt_parameters),
            )
        )
        return act

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session()
        self.sessions.append(session)
        self.connections += 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        conversation = self.conversation(self, session, reader, writer)
        try:
            await conversation.run()
        except (Over, OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            conversation.writer.transport.abort()
        finally:
            conversation.writer.close()
