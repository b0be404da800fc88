"""One conversation of the scripted SMTP server: commands in, replies out in one batch per flight.

Replies are held back until more input is needed, as servers with PIPELINING do (RFC 2920 §3.2), so every
batch of replies is one round trip of the client.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

from empath.testing.smtp_sink_script import Act, Session, class_of

BLOCK = 65_536

_PATH = re.compile(r'(?:FROM|TO):\s*<((?:"(?:[^"\\]|\\.)*"|[^">])*)>\s*(.*)', re.IGNORECASE)
_BDAT = re.compile(r"(\d+)( LAST)?", re.IGNORECASE)


class Over(Exception):
    """The conversation ends here."""


class Server(Protocol):
    """What a conversation needs of its server."""

    hostname: str
    extensions: tuple[str, ...]
    tls: ssl.SSLContext | None
    latency: float
    splits: bool
    unknown: frozenset[str]

    async def act(self, stage: str, argument: str, session: Session) -> Act | None: ...
    async def take(self, session: Session, content: bytes) -> Act | None: ...


class Conversation:
    def __init__(
        self, server: Server, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.session = session
        self.reader = reader
        self.writer = writer
        self._buffer = b""
        self._replies = b""
        self._flight: list[str] = []
        self._is_spoilt = False
        self._handlers: dict[str, Callable[[str], Awaitable[None]]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "STARTTLS": self._starttls,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "BDAT": self._bdat,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def run(self) -> None:
        await self._answer("connect", "", f"220 {self.server.hostname} ESMTP sink")
        while True:
            line = await self._read_line()
            self.session.commands.append(line)
            self._flight.append(line)
            verb, _, argument = line.partition(" ")
            verb = verb.upper()
            if self._replies and (act := await self.server.act("pipelined", line, self.session)) is not None:
                await self._do(act)
                continue
            handler = None if verb in self.server.unknown else self._handlers.get(verb)
            if handler is None:
                await self._answer(verb, argument, "502 5.5.1 Command not implemented")
            else:
                await handler(argument)

    async def _ehlo(self, argument: str) -> None:
        self._reset()
        offers = [self.server.hostname, *self.server.extensions]
        if self.server.tls is not None and self.session.tls is None:
            offers.append("STARTTLS")
        await self._answer("EHLO", argument, "250 " + "\n".join(offers))

    async def _helo(self, argument: str) -> None:
        self._reset()
        await self._answer("HELO", argument, f"250 {self.server.hostname}")

    async def _starttls(self, argument: str) -> None:
        context = self.server.tls
        if context is None:
            await self._answer("STARTTLS", argument, "502 5.5.1 No TLS here")
            return
        if not await self._answer("STARTTLS", argument, "220 2.0.0 Go ahead"):
            return
        await self._flush()
        if (act := await self.server.act("handshake", "", self.session)) is not None:
            await self._do(act)
            await self._flush()
            raise Over
        self._buffer = b""
        await self.writer.start_tls(context)
        cipher = self.writer.get_extra_info("cipher")
        self.session.tls = cipher[0]
        self._reset()

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
            self.session.rcpt_parameters.append(tuple(path[2].split()))

    async def _data(self, argument: str) -> None:
        usual = "354 End with a dot" if self.session.recipients else "554 5.5.1 No valid recipients"
        act = await self.server.act("DATA", argument, self.session) or Act(usual)
        await self._do(act)
        if class_of(act) == "3":
            content = await self._read_content()
            self._flight.append(".")
            await self._end_message(content)

    async def _bdat(self, argument: str) -> None:
        """RFC 3030 §2: the octets of a refused chunk are swallowed, and those of the chunks after it."""
        chunk = _BDAT.fullmatch(argument)
        if chunk is None:
            await self._answer("BDAT", argument, "501 5.5.4 What size")
            return
        act = await self.server.act("BDAT", argument, self.session)
        if act is not None and act.then != "go on":
            await self._do(act)
        octets = await self._read_chunk(int(chunk[1]))
        if act is not None and class_of(act) != "2":
            self._is_spoilt = True
            await self._do(act)
        elif self._is_spoilt or not self.session.recipients:
            await self._do(Act("503 5.5.1 No valid recipients"))
        elif chunk[2] is None:
            self.session.chunks += octets
            await self._do(act or Act(f"250 2.0.0 {len(octets)} octets"))
        else:
            await self._end_message(self.session.chunks + octets)

    async def _end_message(self, content: bytes) -> None:
        if not self.session.recipients:
            act = Act("554 5.5.1 No valid recipients")
        else:
            act = await self.server.take(self.session, content) or Act("250 2.0.0 Ok")
        self._reset()
        await self._do(act)

    async def _rset(self, argument: str) -> None:
        self._reset()
        await self._answer("RSET", argument, "250 2.0.0 Ok")

    async def _noop(self, argument: str) -> None:
        await self._answer("NOOP", argument, "250 2.0.0 Ok")

    async def _quit(self, argument: str) -> None:
        await self._answer("QUIT", argument, "221 2.0.0 Bye")
        await self._flush()
        raise Over

    def _reset(self) -> None:
        self.session.reset()
        self._is_spoilt = False

    async def _answer(self, stage: str, argument: str, usual: str) -> bool:
        """Do what the script says, or the usual; True when the reply was of the usual class."""
        act = await self.server.act(stage, argument, self.session) or Act(usual)
        await self._do(act)
        return class_of(act) == usual[0]

    async def _do(self, act: Act) -> None:
        if act.delay:
            await self._flush()
            await asyncio.sleep(act.delay)
        self._replies += act.say if isinstance(act.say, bytes) else _lines(act.say)
        if act.then == "go on":
            return
        await self._flush()
        match act.then:
            case "close":
                raise Over
            case "abort":
                self.writer.transport.abort()
                raise Over
            case "stall":
                while await self.reader.read(BLOCK):
                    pass
                raise Over
            case "deaf":
                await asyncio.Event().wait()

    async def _flush(self) -> None:
        """Say what is to be said: the end of a flight."""
        if not self._replies:
            return
        if self._flight:
            self.session.flights.append(self._flight)
            self._flight = []
        if self.server.latency:
            await asyncio.sleep(self.server.latency)
        replies, self._replies = self._replies, b""
        if not self.server.splits:
            self.writer.write(replies)
        else:
            for octet in replies:
                self.writer.write(bytes([octet]))
                await asyncio.sleep(0)
        await self.writer.drain()

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
            except Over:
                self.session.partial = bytes(gathered[2:])
                raise
            if first:
                await self._act_amid_content()
            first = False
        self._buffer = bytes(gathered[end + 5 :])
        return bytes(gathered[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]

    async def _read_chunk(self, size: int) -> bytes:
        gathered = bytearray(self._buffer)
        first = True
        while len(gathered) < size:
            try:
                gathered += await self._read_block()
            except Over:
                self.session.partial = self.session.chunks + bytes(gathered)
                raise
            if first:
                await self._act_amid_content()
            first = False
        self._buffer = bytes(gathered[size:])
        return bytes(gathered[:size])

    async def _act_amid_content(self) -> None:
        if (act := await self.server.act("content", "", self.session)) is not None:
            await self._do(act)
            await self._flush()

    async def _read_block(self) -> bytes:
        await self._flush()
        block = await self.reader.read(BLOCK)
        if not block:
            raise Over
        return block


def _lines(reply: str) -> bytes:
    """`250 a<LF>b` as `250-a`, `250 b` on the wire."""
    if not reply:
        return b""
    code, texts = reply[:3], reply[4:].split("\n")
    lines = [f"{code}-{text}" for text in texts[:-1]] + [f"{code} {texts[-1]}"]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")
