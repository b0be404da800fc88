"""Every reply that the core gives by itself, and how a reply is written on the wire.

Codes per RFC 5321 §4.2.3 and §4.3.2, enhanced codes per RFC 3463 and RFC 5248. The greeting and the
replies to EHLO and HELO carry no enhanced code (RFC 2034 §4), nor does 354 (there is no class 3).
"""

from __future__ import annotations

import base64
import re
from functools import cache

from empath.domain.reply import Reply

MAX_REPLY_LINE = 512  # RFC 5321 §4.5.3.1.5, with code and CRLF

OK = Reply.of(250, "2.0.0", "Ok")
RESET = OK
MAIL_OK = Reply.of(250, "2.1.0", "Ok")
RCPT_OK = Reply.of(250, "2.1.5", "Ok")
MESSAGE_OK = Reply.of(250, "2.0.0", "Ok: message accepted")
START_CONTENT = Reply.of(354, None, "End data with <CR><LF>.<CR><LF>")
BYE = Reply.of(221, "2.0.0", "Bye")
HELP = Reply.of(214, "2.0.0", "RFC 5321: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT")
CANNOT_VERIFY = Reply.of(252, "2.0.0", "Cannot verify the user; send mail and it will be tried")

AUTH_OK = Reply.of(235, "2.7.0", "Authentication successful")
START_TLS = Reply.of(220, "2.0.0", "Ready to start TLS")

TOO_MANY_ERRORS = Reply.of(421, "4.7.0", "Too many errors, closing the connection")
TOO_MUCH_INPUT = Reply.of(421, "4.7.0", "Message far above the size limit, closing the connection")
BAD_BDAT = Reply.of(421, "4.5.4", "Syntax: BDAT size [LAST]; cannot tell content from commands, closing")
TOO_MANY_MESSAGES = Reply.of(421, "4.7.0", "Too many messages in this session, closing the connection")
CANNOT_AUTHENTICATE = Reply.of(454, "4.7.0", "Temporary authentication failure")
TLS_NOT_AVAILABLE = Reply.of(454, "4.7.0", "TLS not available due to a temporary reason")
TOO_MANY_RECIPIENTS = Reply.of(452, "4.5.3", "Too many recipients")

UNKNOWN_COMMAND = Reply.of(500, "5.5.2", "Command not recognised")
LINE_TOO_LONG = Reply.of(500, "5.5.2", "Line too long")
BARE_NEWLINE_IN_COMMAND = Reply.of(500, "5.5.2", "Bare CR or LF in a command; lines end with CR LF")
NO_ARGUMENT_ALLOWED = Reply.of(501, "5.5.4", "This command takes no argument")
BAD_HELO = Reply.of(501, None, "Syntax: EHLO or HELO, one space, and your host name or [address]")
BAD_MAIL = Reply.of(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
BAD_RCPT = Reply.of(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
BAD_VRFY = Reply.of(501, "5.5.4", "Syntax: VRFY address")
NOT_IMPLEMENTED = Reply.of(502, "5.5.1", "Command not implemented")
NEED_EHLO = Reply.of(503, "5.5.1", "Bad sequence of commands: send EHLO or HELO first")
NEED_MAIL = Reply.of(503, "5.5.1", "Bad sequence of commands: need MAIL before this")
NEED_RCPT = Reply.of(503, "5.5.1", "Bad sequence of commands: need RCPT before content")
IN_CHUNKS = Reply.of(503, "5.5.1", "Bad sequence of commands: BDAT was used, BDAT or RSET comes next")
NESTED_MAIL = Reply.of(503, "5.5.1", "Bad sequence of commands: nested MAIL")
IN_TRANSACTION = Reply.of(503, "5.5.1", "Bad sequence of commands: not within a transaction")
BAD_AUTH = Reply.of(501, "5.5.4", "Syntax: AUTH mechanism [initial response]")
AUTH_CANCELLED = Reply.of(501, "5.7.0", "Authentication cancelled")
BAD_BASE64 = Reply.of(501, "5.5.2", "Response is not base64")
BAD_CREDENTIALS = Reply.of(501, "5.5.2", "Response holds no user and password")
AUTH_LINE_TOO_LONG = Reply.of(500, "5.5.6", "Authentication exchange line is too long")
UNKNOWN_MECHANISM = Reply.of(504, "5.5.4", "Authentication mechanism not recognised")
NEED_AUTH = Reply.of(530, "5.7.0", "Authentication required")  # RFC 4954 §6
NEED_STARTTLS = Reply.of(530, "5.7.0", "Must issue a STARTTLS command first")  # RFC 3207 §4
AUTH_FAILED = Reply.of(535, "5.7.8", "Authentication credentials invalid")
NEED_TLS = Reply.of(538, "5.7.11", "Encryption required for this authentication mechanism")
IS_AUTHENTICATED = Reply.of(503, "5.5.1", "Bad sequence of commands: authenticated already")
TLS_IS_ACTIVE = Reply.of(503, "5.5.1", "Bad sequence of commands: TLS is active already")
BARE_NEWLINE_IN_CONTENT = Reply.of(550, "5.6.0", "Message has a bare CR or LF; lines end with CR LF")
MESSAGE_TOO_BIG = Reply.of(552, "5.3.4", "Message exceeds the size limit")
NEED_SMTPUTF8 = Reply.of(553, "5.6.7", "Address is not ASCII and SMTPUTF8 was not asked for")
NO_VALID_RECIPIENTS = Reply.of(554, "5.5.1", "No valid recipients")

_UNPRINTABLE = re.compile(r"[^\n\x20-\x7e]")


@cache
def greeting(hostname: str) -> Reply:
    return _kept(Reply.of(220, None, f"{hostname} ESMTP Empath"))


@cache
def helo_ok(hostname: str, lines: tuple[str, ...] = ()) -> Reply:
    """`lines` are the EHLO keywords, one each (RFC 5321 §4.1.1.1)."""
    return _kept(Reply.of(250, None, "\n".join((hostname, *lines))))


def chunk_taken(size: int) -> Reply:
    return Reply.of(250, "2.0.0", f"Ok: {size} octets taken")


def challenge(prompt: str) -> Reply:
    """`prompt` in base64, as the client gets it within AUTH (RFC 4954 §4)."""
    return Reply.of(334, None, base64.b64encode(prompt.encode()).decode("ascii"))


def bad_reverse_path(why: str) -> Reply:
    return Reply.of(501, "5.1.7", f"Bad sender address: {why}")


def bad_forward_path(why: str) -> Reply:
    return Reply.of(501, "5.1.3", f"Bad recipient address: {why}")


def bad_parameter(keyword: str) -> Reply:
    return Reply.of(501, "5.5.4", f"Bad value or form of parameter {keyword[:40]}")


def unknown_parameter(keyword: str) -> Reply:
    return Reply.of(555, "5.5.4", f"Parameter {keyword[:40]} is not recognised or not implemented")


def encode(reply: Reply) -> bytes:
    """A reply on the wire: `text` may have several lines, each with the code and enhanced code.

    What is not printable ASCII is replaced and what is too long is cut: a reply never carries
    a line that it was not meant to have.
    """
    return _KEPT.get(id(reply)) or _encode(reply)


def _kept(reply: Reply) -> Reply:
    """Encode a reply once that lives as long as this module, so that its id names no other one."""
    _KEPT[id(reply)] = _encode(reply)
    return reply


def _encode(reply: Reply) -> bytes:
    code = str(reply.code)
    enhanced = f"{reply.enhanced} " if reply.enhanced is not None else ""
    text = reply.text
    if not (text.isascii() and text.isprintable()):
        text = _UNPRINTABLE.sub("?", text)
    room = MAX_REPLY_LINE - len(code) - 1 - len(enhanced) - 2
    *most, last = text.split("\n")
    lines = [f"{code}-{enhanced}{line[:room]}\r\n" for line in most]
    lines.append(f"{code} {enhanced}{last[:room]}\r\n")
    return "".join(lines).encode("ascii")


# The replies above, ready to be sent.
_KEPT = {id(known): _encode(known) for known in tuple(globals().values()) if isinstance(known, Reply)}
