"""A real SMTP server that does what a script says and keeps what it was sent, byte for byte.

    script = {
        "RCPT bob@example.test": "550 5.1.1 Unknown",       # this recipient
        "RCPT @slow.test": STALL,                           # every recipient of a domain
        "message": ["451 4.7.1 Greylisted", DROP],          # first message, second message, then as usual
    }
    async with SmtpSink(script) as sink:
        ... connect to sink.port ...
    assert sink.accepted[0].content == b"Subject: x\r\n\r\n"

Stages: `connect EHLO HELO STARTTLS handshake MAIL RCPT DATA content message RSET NOOP QUIT`. `content`
is the first block after 354, `message` the final dot, `handshake` the moment when TLS would begin. It is
built on nothing of this project's own SMTP, so that both cannot be wrong in the same way.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

BLOCK = 65_536
EXTENSIONS = ("PIPELINING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES")

_PATH = re.compile(r'(?:FROM|TO):\s*<((?:"(?:[^"\\]|\\.)*"|[^">])*)>\s*(.*)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Act:
    """What the server does at a stage: say something (bytes as they are), then go on or not."""

    say: str | bytes = b""
    then: Literal["go on", "close", "abort", "stall", "deaf"] = "go on"
    """`abort` resets the connection; `stall` reads on and says nothing; `deaf` does not even read."""
    delay: float = 0.0
    """Seconds before anything is said."""


DROP = Act(then="close")
RESET = Act(then="abort")
STALL = Act(then="stall")
DEAF = Act(then="deaf")

Step = Act | str | bytes
Script = Mapping[str, Step | list[Step]]


@dataclass(frozen=True, slots=True)
class SinkMessage:
    """Content that was received up to its final dot."""

    reverse_path: str
    recipients: tuple[str, ...]
    parameters: tuple[str, ...]
    """Of MAIL."""
    content: bytes
    accepted: bool
    """False when the script answered with something else than 2xx, or not at all."""


@dataclass(slots=True)
class Session:
    """One connection, as far as it has come."""

    commands: list[str] = field(default_factory=list)
    tls: str | None = None
    reverse_path: str | None = None
    parameters: tuple[str, ...] = ()
    recipients: list[str] = field(default_factory=list)
    partial: bytes = b""
    """Content that came before the connection ended without a final dot."""

    def reset(self) -> None:
        self.reverse_path, self.parameters, self.recipients = None, (), []


class SmtpSink:
    def __init__(
        self,
        script: Script | None = None,
        *,
        hostname: str = "mx.sink.test",
        extensions: tuple[str, ...] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        history: int | None = None,
    ) -> None:
        """`history` bounds the sessions that are remembered, for a server that runs for long."""
        self.script = {
            stage: list(step) if isinstance(step, list) else step for stage, step in (script or {}).items()
        }
        self.hostname = hostname
        self.extensions = extensions
        self.tls = tls
        self.port = 0
        self.sessions: deque[Session] = deque(maxlen=history)
        self.connections = 0
        self.messages: list[SinkMessage] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def accepted(self) -> list[SinkMessage]:
        return [message for message in self.messages if message.accepted]

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Self:
        """Listen; OSError when the port is in use."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=BLOCK, backlog=1024)
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
                accepted=act is None or _class_of(act) == "2",
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
        conversation = _Conversation(self, session, reader, writer)
        try:
            await conversation.run()
        except (_Over, OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            conversation.writer.transport.abort()
        finally:
            conversation.writer.close()


class _Over(Exception):
    """The conversation ends here."""


class _Conversation:
    def __init__(
        self, sink: SmtpSink, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.sink = sink
        self.session = session
        self.reader = reader
        self.writer = writer
        self._buffer = b""

    async def run(self) -> None:
        await self._answer("connect", "", f"220 {self.sink.hostname} ESMTP sink")
        while True:
            line = await self._read_line()
            self.session.commands.append(line)
            verb, _, argument = line.partition(" ")
            verb = verb.upper()
            handler = getattr(self, f"_{verb.lower()}", None) if verb in _VERBS else None
            if handler is None:
                await self._answer(verb, argument, "502 5.5.1 Command not implemented")
            else:
                await handler(argument)

    async def _ehlo(self, argument: str) -> None:
        self.session.reset()
        offers = [self.sink.hostname, *self.sink.extensions]
        if self.sink.tls is not None and self.session.tls is None:
            offers.append("STARTTLS")
        await self._answer("EHLO", argument, "250 " + "\n".join(offers))

    async def _helo(self, argument: str) -> None:
        self.session.reset()
        await self._answer("HELO", argument, f"250 {self.sink.hostname}")

    async def _starttls(self, argument: str) -> None:
        context = self.sink.tls
        if context is None:
            await self._answer("STARTTLS", argument, "502 5.5.1 No TLS here")
            return
        if not await self._answer("STARTTLS", argument, "220 2.0.0 Go ahead"):
            return
        if (act := await self.sink.act("handshake", "", self.session)) is not None:
            await self._do(act)
            raise _Over
        self._buffer = b""
        await self.writer.start_tls(context)
        cipher = self.writer.get_extra_info("cipher")
        self.session.tls = cipher[0]
        self.session.reset()

    async def _mail(self, argument: str) -> None:
        path = _PATH.fullmatch(argument)
        if path is None or self.session.reverse_path is not None:
            await self._answer("MAIL", argument, "503 5.5.1 Not now or not so")
        elif await self._answer("MAIL", path[1], "250 2.1.0 Ok"):
            self.session.reverse_path = path[1]
            self.session.parameters = tuple(path[2].split())

    async def _rcpt(self, argument: str) -> None:
        path = _PATH.fullmatch(argument)
        if path is None or self.session.reverse_path is None:
            await self._answer("RCPT", argument, "503 5.5.1 Not now or not so")
        elif await self._answer("RCPT", path[1], "250 2.1.5 Ok"):
            self.session.recipients.append(path[1])

    async def _data(self, argument: str) -> None:
        if not self.session.recipients:
            await self._answer("DATA", argument, "554 5.5.1 No valid recipients")
            return
        if not await self._answer("DATA", argument, "354 End with a dot"):
            return
        content = await self._read_content()
        act = await self.sink.take(self.session, content) or Act("250 2.0.0 Ok")
        self.session.reset()
        await self._do(act)

    async def _rset(self, argument: str) -> None:
        self.session.reset()
        await self._answer("RSET", argument, "250 2.0.0 Ok")

    async def _noop(self, argument: str) -> None:
        await self._answer("NOOP", argument, "250 2.0.0 Ok")

    async def _quit(self, argument: str) -> None:
        await self._answer("QUIT", argument, "221 2.0.0 Bye")
        raise _Over

    async def _answer(self, stage: str, argument: str, usual: str) -> bool:
        """Do what the script says, or the usual; True when the reply was of the usual class."""
        act = await self.sink.act(stage, argument, self.session) or Act(usual)
        await self._do(act)
        return _class_of(act) == usual[0]

    async def _do(self, act: Act) -> None:
        if act.delay:
            await asyncio.sleep(act.delay)
        if act.say:
            self.writer.write(act.say if isinstance(act.say, bytes) else _lines(act.say))
            await self.writer.drain()
        match act.then:
            case "close":
                raise _Over
            case "abort":
                self.writer.transport.abort()
                raise _Over
            case "stall":
                while await self.reader.read(BLOCK):
                    pass
                raise _Over
            case "deaf":
                await asyncio.Event().wait()

    async def _read_line(self) -> str:
        while b"\r\n" not in self._buffer:
            self._buffer += await self._read_block()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("utf-8", "surrogateescape")

    async def _read_content(self) -> bytes:
        """Everything up to CRLF.CRLF, its dots unstuffed (RFC 5321 §4.5.2)."""
        gathered = bytearray(b"\r\n" + self._buffer)  # so that a dot right after 354 ends a line too
        self._buffer = b""
        start, first = 0, True
        while (end := gathered.find(b"\r\n.\r\n", start)) < 0:
            start = max(0, len(gathered) - 4)
            try:
                gathered += await self._read_block()
            except _Over:
                self.session.partial = bytes(gathered[2:])
                raise
            if first and (act := await self.sink.act("content", "", self.session)) is not None:
                await self._do(act)
            first = False
        self._buffer = bytes(gathered[end + 5 :])
        return bytes(gathered[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]

    async def _read_block(self) -> bytes:
        block = await self.reader.read(BLOCK)
        if not block:
            raise _Over
        return block


_VERBS = frozenset({"EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"})


def _class_of(act: Act) -> str:
    """The first digit of the reply."""
    return (act.say if isinstance(act.say, str) else act.say[:1].decode("latin-1"))[:1]


def _lines(reply: str) -> bytes:
    """`250 a<LF>b` as `250-a`, `250 b` on the wire."""
    code, texts = reply[:3], reply[4:].split("\n")
    lines = [f"{code}-{text}" for text in texts[:-1]] + [f"{code} {texts[-1]}"]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")
