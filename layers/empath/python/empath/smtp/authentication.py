"""A session that lets its client authenticate: AUTH (RFC 4954) with PLAIN (RFC 4616) and LOGIN.

Asks its owner whether user and password are right, and keeps neither the password nor what was said in
an exchange. Nothing of an exchange stands in a reply, an event's text or a log.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence

from empath.domain.reply import Reply
from empath.smtp import events, replies
from empath.smtp.content import ContentSession, Input
from empath.smtp.events import EndCause
from empath.smtp.faults import CommandFault
from empath.smtp.limits import MAX_AUTH_LINE, Limits

MECHANISMS: Mapping[str, Sequence[str]] = {"PLAIN": ("",), "LOGIN": ("Username:", "Password:")}
"""What a mechanism asks for, one response each. LOGIN has no RFC; clients know it by these words."""


class AuthSession(ContentSession):
    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.user: str | None = None
        """Who the client proved to be."""
        self._mechanism = ""
        self._responses: list[bytes] = []

    def _begin_exchange(self, argument: str) -> None:
        # auth-command = "AUTH" SP sasl-mech [SP initial-response]    RFC 4954 §8
        mechanism, _, initial = argument.partition(" ")
        if not mechanism:
            raise CommandFault(replies.BAD_AUTH)
        if mechanism.upper() not in MECHANISMS:
            raise CommandFault(replies.UNKNOWN_MECHANISM)
        self._mechanism, self._responses = mechanism.upper(), []
        if initial:
            # "=" is a response that is empty, where nothing at all means that there is none (§4).
            self._take_response(b"" if initial == "=" else _decoded(initial.encode("utf-8", "replace")))
        else:
            self._go_on()

    def _read_response(self) -> bool:
        line = self._input.take_line(MAX_AUTH_LINE)
        if line is None:
            return False
        self._expects = Input.COMMAND
        try:
            if isinstance(line, Reply):
                raise CommandFault(replies.AUTH_LINE_TOO_LONG if line is replies.LINE_TOO_LONG else line)
            if line == b"*":
                raise CommandFault(replies.AUTH_CANCELLED)
            self._take_response(_decoded(line))
        except CommandFault as fault:
            self._responses = []
            self._fail(fault.reply)
        return True

    def _take_response(self, response: bytes) -> None:
        self._responses.append(response)
        self._go_on()

    def _go_on(self) -> None:
        prompts = MECHANISMS[self._mechanism]
        if len(self._responses) < len(prompts):
            self._expects = Input.RESPONSE
            self._write(replies.challenge(prompts[len(self._responses)]))
            return
        responses, self._responses = self._responses, []
        user, password = _credentials(self._mechanism, responses)
        self._ask(events.Authenticate(user, password))

    def _close(self, reply: Reply, cause: EndCause) -> None:
        self._responses = []
        super()._close(reply, cause)


def _decoded(text: bytes) -> bytes:
    # base64 = base64-char 4 in a group, padded; nothing else may stand in it (RFC 4648 §3.3)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CommandFault(replies.BAD_BASE64) from None


def _credentials(mechanism: str, responses: Sequence[bytes]) -> tuple[str, str]:
    # message = [authzid] UTF8NUL authcid UTF8NUL passwd    RFC 4616 §2
    parts = responses[0].split(b"\0") if mechanism == "PLAIN" else [b"", *responses]
    if len(parts) != 3:
        raise CommandFault(replies.BAD_CREDENTIALS)
    try:
        identity, user, password = (part.decode("utf-8") for part in parts)
    except UnicodeDecodeError:
        raise CommandFault(replies.BAD_CREDENTIALS) from None
    if not user or not password or "\0" in user + password:
        raise CommandFault(replies.BAD_CREDENTIALS)
    if identity not in {"", user}:
        raise CommandFault(replies.AUTH_FAILED)  # nobody acts for another here
    return user, password
