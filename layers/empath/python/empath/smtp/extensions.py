"""Service extensions as data: an EHLO keyword, and the MAIL and RCPT parameters that it brings.

A session is given the extensions that it offers; a parameter of an extension that is not offered is
unknown (RFC 5321 §4.1.1.11), and a command of one is not implemented. What commands do is written in
`server.py`; here stands which extension brings them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Literal

from empath.smtp import replies
from empath.smtp.faults import CommandFault
from empath.smtp.grammar import parse_parameters
from empath.smtp.limits import Limits


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What came with MAIL; the names are those of `Envelope`, besides `size`."""

    size: int | None = None
    eight_bit: bool = False
    smtputf8: bool = False
    envid: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """What came with RCPT; the names are those of `Recipient`."""

    notify: tuple[str, ...] | None = None
    orcpt: str | None = None


ParameterReader = Callable[[str | None, Limits], Mapping[str, Any]]
"""From a parameter's value (None: it has none) to fields; raises CommandFault."""


class Channel(Enum):
    """On which connections an extension is offered."""

    ANY = auto()
    CLEAR = auto()
    TLS = auto()


@dataclass(frozen=True, slots=True)
class Extension:
    keyword: str
    value: Callable[[Limits], str] | None = None
    """What follows the keyword in the EHLO reply."""
    mail: Mapping[str, ParameterReader] = field(default_factory=dict)
    rcpt: Mapping[str, ParameterReader] = field(default_factory=dict)
    commands: frozenset[str] = frozenset()
    """Verbs that are known only where the extension is offered."""
    channel: Channel = Channel.ANY

    def line(self, limits: Limits) -> str:
        """What the EHLO reply says of it."""
        return self.keyword if self.value is None else f"{self.keyword} {self.value(limits)}"


class Offer:
    """The extensions of a session, looked up by keyword; shared by all sessions of a listener."""

    def __init__(self, extensions: Sequence[Extension], limits: Limits) -> None:
        self._limits = limits
        self._keywords = frozenset(known.keyword for known in extensions)
        self._mail = {keyword: read for known in extensions for keyword, read in known.mail.items()}
        self._rcpt = {keyword: read for known in extensions for keyword, read in known.rcpt.items()}
        self.commands = frozenset().union(*(known.commands for known in extensions))
        self._ehlo_lines = {
            is_secure: tuple(known.line(limits) for known in extensions if known.channel is not other)
            for is_secure, other in ((False, Channel.TLS), (True, Channel.CLEAR))
        }

    def ehlo_lines(self, *, is_secure: bool) -> tuple[str, ...]:
        return self._ehlo_lines[is_secure]

    def has(self, keyword: str) -> bool:
        return keyword in self._keywords

    def mail_parameters(self, text: str) -> MailParameters:
        if not text:
            return _NO_MAIL_PARAMETERS
        return MailParameters(**self._read(text, self._mail))

    def rcpt_parameters(self, text: str) -> RcptParameters:
        if not text:
            return _NO_RCPT_PARAMETERS
        return RcptParameters(**self._read(text, self._rcpt))

    def _read(self, text: str, readers: Mapping[str, ParameterReader]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for keyword, value in parse_parameters(text).items():
            reader = readers.get(keyword)
            if reader is None:
                raise CommandFault(replies.unknown_parameter(keyword))
            fields.update(reader(value, self._limits))
        return fields


_NO_MAIL_PARAMETERS = MailParameters()
_NO_RCPT_PARAMETERS = RcptParameters()

# size-value ::= 1*20DIGIT, RFC 1870 §5
_SIZE = re.compile(r"[0-9]{1,20}")


def _read_size(value: str | None, limits: Limits) -> Mapping[str, Any]:
    if value is None or not _SIZE.fullmatch(value):
        raise CommandFault(replies.bad_parameter("SIZE"))
    size = int(value)
    if size > limits.max_size:
        raise CommandFault(replies.MESSAGE_TOO_BIG)  # RFC 1870 §6.1
    return {"size": size}


# body-value ::= "7BIT" / "8BITMIME", RFC 6152 §2
def _read_body(value: str | None, limits: Limits) -> Mapping[str, Any]:
    body = (value or "").upper()
    if body not in {"7BIT", "8BITMIME"}:
        raise CommandFault(replies.bad_parameter("BODY"))
    return {"eight_bit": body == "8BITMIME"}


def _read_flag(field_name: str, keyword: str) -> ParameterReader:
    """A parameter that has no value and says all by being there."""

    def read(value: str | None, limits: Limits) -> Mapping[str, Any]:
        if value is not None:
            raise CommandFault(replies.bad_parameter(keyword))
        return {field_name: True}

    return read


# rcptmax-value = %x31-39 0*5DIGIT, and mailmax-value alike: 1 to 999999, RFC 9422 §4
_MAX_TOLD = 999_999


def _limits(limits: Limits) -> str:
    numbers = {"MAILMAX": limits.max_messages, "RCPTMAX": limits.max_recipients}
    return " ".join(f"{name}={min(number, _MAX_TOLD)}" for name, number in numbers.items())


PIPELINING = Extension("PIPELINING")  # RFC 2920
SIZE = Extension("SIZE", value=lambda limits: str(limits.max_size), mail={"SIZE": _read_size})  # RFC 1870
EIGHT_BIT_MIME = Extension("8BITMIME", mail={"BODY": _read_body})  # RFC 6152
ENHANCED_STATUS_CODES = Extension("ENHANCEDSTATUSCODES")  # RFC 2034
CHUNKING = Extension("CHUNKING", commands=frozenset({"BDAT"}))  # RFC 3030
SMTPUTF8 = Extension("SMTPUTF8", mail={"SMTPUTF8": _read_flag("smtputf8", "SMTPUTF8")})  # RFC 6531
LIMITS = Extension("LIMITS", value=_limits)  # RFC 9422
# xtext = *( xchar / hexchar ), RFC 3461 §4; the value is "<>" or an address in xtext, RFC 4954 §5
_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})+")


def _read_auth(value: str | None, limits: Limits) -> Mapping[str, Any]:
    """Read and not believed: who submitted a message is known by the session (RFC 4954 §5)."""
    if value is None or not _XTEXT.fullmatch(value):
        raise CommandFault(replies.bad_parameter("AUTH"))
    return {}


AUTH = Extension(  # RFC 4954
    "AUTH",
    value=lambda limits: "PLAIN LOGIN",
    mail={"AUTH": _read_auth},
    commands=frozenset({"AUTH"}),
    channel=Channel.TLS,
)
STARTTLS = Extension("STARTTLS", commands=frozenset({"STARTTLS"}), channel=Channel.CLEAR)  # RFC 3207

STANDARD = (PIPELINING, SIZE, EIGHT_BIT_MIME, ENHANCED_STATUS_CODES, CHUNKING, SMTPUTF8, LIMITS)
"""What every listener offers; the others need something of their owner."""
