"""Next hops of routes: a mail store (LMTP) and a relay that wants a login, both as scripted as `smtp_sink`.

    async with LmtpSink({"delivered bob@example.test": "552 5.2.2 Full"}) as sink: ...
    async with RelaySink(logins={"relay": "secret"}, tls=context) as sink: ...

Stages beside those of `smtp_sink`: `LHLO`, `AUTH`, and `delivered`, the reply for one recipient at the end.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Mapping
from typing import cast

from empath.testing.smtp_sink import EXTENSIONS, Script, SmtpSink
from empath.testing.smtp_sink_conversation import Conversation, Server
from empath.testing.smtp_sink_script import Act, Session

__all__ = ["LmtpSink", "RelaySink"]


class LmtpConversation(Conversation):
    """RFC 2033: LHLO, and a reply for each recipient after the final dot."""

    def __init__(
        self, server: Server, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(server, session, reader, writer)
        del self._handlers["EHLO"], self._handlers["HELO"]
        self._handlers["LHLO"] = self._ehlo

    async def _end_message(self, content: bytes) -> None:
        recipients = list(self.session.recipients)
        act = await self.server.take(self.session, content)
        self._reset()
        if act is not None and act.then != "go on":
            await self._do(act)
            return
        for recipient in recipients:
            if act is not None:
                await self._do(act)
                continue
            await self._answer("delivered", recipient, f"250 2.1.5 <{recipient}> saved")


class LmtpSink(SmtpSink):
    conversation = LmtpConversation


class LoginConversation(Conversation):
    """RFC 4954: AUTH PLAIN and LOGIN; no mail before."""

    def __init__(
        self, server: Server, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(server, session, reader, writer)
        self._is_known = False
        self._handlers["AUTH"] = self._auth

    @property
    def _relay(self) -> RelaySink:
        return cast(RelaySink, self.server)

    async def _auth(self, argument: str) -> None:
        method, _, initial = argument.partition(" ")
        try:
            if method.upper() == "PLAIN":
                _, username, password = _text(initial).split("\0")
            else:
                username = _text(initial or await self._ask("VXNlcm5hbWU6"))
                password = _text(await self._ask("UGFzc3dvcmQ6"))
        except (ValueError, binascii.Error):
            await self._do(Act("501 5.5.2 Not base64"))
            return
        self._relay.heard_logins.append((method.upper(), username, password))
        self._is_known = self._relay.logins.get(username) == password
        usual = "235 2.7.0 Welcome" if self._is_known else "535 5.7.8 Wrong user name or password"
        await self._answer("AUTH", method, usual)

    async def _ask(self, challenge: str) -> str:
        await self._do(Act(f"334 {challenge}"))
        return await self._read_line()

    async def _mail(self, argument: str) -> None:
        if self._is_known:
            await super()._mail(argument)
        else:
            await self._do(Act("530 5.7.0 Authentication required"))


class RelaySink(SmtpSink):
    conversation = LoginConversation

    def __init__(
        self,
        script: Script | None = None,
        *,
        logins: Mapping[str, str],
        methods: str = "PLAIN LOGIN",
        tls: ssl.SSLContext | None = None,
        hostname: str = "mx.sink.test",
    ) -> None:
        super().__init__(script, tls=tls, hostname=hostname, extensions=(*EXTENSIONS, f"AUTH {methods}"))
        self.logins = logins
        self.heard_logins: list[tuple[str, str, str]] = []


def _text(word: str) -> str:
    return base64.b64decode(word, validate=True).decode()
