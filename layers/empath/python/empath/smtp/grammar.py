"""Command lines, paths and parameters as RFC 5321 §4.1 writes them.

Takes text, gives values or a CommandFault; knows nothing of sessions or of what is allowed in them.
Liberal where every client relies on it: white space after the colon of `FROM:` and `TO:`, trailing
white space, any printable name after EHLO. Mailboxes themselves are `domain.address`'s business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from empath.domain.address import Mailbox, check_domain, parse_mailbox
from empath.domain.errors import AddressSyntaxError
from empath.domain.reply import Reply
from empath.smtp import replies
from empath.smtp.faults import CommandFault

MAX_HELO_NAME = 255  # RFC 5321 §4.5.3.1.2


@dataclass(frozen=True, slots=True)
class Command:
    """One line: `verb` in upper case, `argument` without the space around it."""

    verb: str
    argument: str


# The name may be anything that can be shown: clients with odd host names are many, and the name
# proves nothing (RFC 5321 §4.1.4). Trace information quotes it only after cleaning.
_HELO_NAME = re.compile(r"[\x21-\x7e]+")

# Path = "<" [ A-d-l ":" ] Mailbox ">"    A-d-l = At-domain *( "," At-domain )    At-domain = "@" Domain
# RFC 5321 §4.1.2. The mailbox is anything without a bracket outside of quotes here.
_PATH = re.compile(
    r"<"
    r"(?:(?P<route>@[^@,:<>\"\s]+(?:,@[^@,:<>\"\s]+)*):)?"
    r"(?P<mailbox>(?:[^\"<>\s]++|\"(?:[^\"\\]|\\.)*\")*)"
    r">"
)

# esmtp-param = esmtp-keyword ["=" esmtp-value]    esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
# esmtp-value = 1*(%d33-60 / %d62-126), RFC 5321 §4.1.2; with UTF8-non-ascii, RFC 6531 §3.3
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e\u0080-\U0010ffff]+))?")


def parse_command(line: bytes) -> Command:
    """Split a line (without its CRLF); octets that are not UTF-8 survive as surrogates."""
    text = line.decode("utf-8", "surrogateescape")
    verb, _, argument = text.partition(" ")
    verb = verb.rstrip("\t")
    # "RSET" is the upper case of a word with a long s, too; that is none of ours.
    return Command(verb.upper() if verb.isascii() else verb, argument.strip(" \t"))


def parse_helo_name(argument: str) -> str:
    """`Domain / address-literal`, or whatever printable name stands there (RFC 5321 §4.1.1.1)."""
    if len(argument) > MAX_HELO_NAME or not _HELO_NAME.fullmatch(argument):
        raise CommandFault(replies.BAD_HELO)
    return argument


def parse_mail(argument: str) -> tuple[Mailbox | None, str]:
    """`"FROM:" Reverse-path [SP Mail-parameters]`: the path and the text of the parameters."""
    # RFC 5321 §4.1.1.2
    inner, parameters = _split_path("FROM:", argument, replies.BAD_MAIL)
    if not inner:
        return None, parameters
    try:
        return parse_mailbox(inner), parameters
    except AddressSyntaxError as error:
        raise CommandFault(replies.bad_reverse_path(str(error))) from None


def parse_rcpt(argument: str, hostname: str) -> tuple[Mailbox, str]:
    """`"TO:" ( "<Postmaster>" / Forward-path ) [SP Rcpt-parameters]`.

    Postmaster without a domain is the one here: RFC 5321 §4.5.1 wants it reachable.
    """
    # RFC 5321 §4.1.1.3
    inner, parameters = _split_path("TO:", argument, replies.BAD_RCPT)
    if inner.lower() == "postmaster":
        return Mailbox("postmaster", hostname), parameters
    try:
        return parse_mailbox(inner), parameters
    except AddressSyntaxError as error:
        raise CommandFault(replies.bad_forward_path(str(error))) from None


def parse_parameters(text: str) -> dict[str, str | None]:
    """`esmtp-param *(SP esmtp-param)`, keywords in upper case; each may stand there once."""
    found: dict[str, str | None] = {}
    for item in text.split(" "):
        if not item:
            continue
        match = _PARAMETER.fullmatch(item)
        if match is None:
            raise CommandFault(replies.bad_parameter(item.partition("=")[0]))
        keyword = match.group(1).upper()
        if keyword in found:
            raise CommandFault(replies.bad_parameter(keyword))
        found[keyword] = match.group(2)
    return found


def _split_path(prefix: str, argument: str, syntax: Reply) -> tuple[str, str]:
    if argument[: len(prefix)].upper() != prefix:
        raise CommandFault(syntax)
    rest = argument[len(prefix) :].lstrip(" ")
    match = _PATH.match(rest)
    if match is None:
        raise CommandFault(syntax)
    parameters = rest[match.end() :]
    if parameters and not parameters.startswith(" "):
        raise CommandFault(syntax)
    route = match["route"]
    if route is not None:
        _check_route(route, syntax)
        if not match["mailbox"]:
            raise CommandFault(syntax)
    return match["mailbox"], parameters


def _check_route(route: str, syntax: Reply) -> None:
    """A source route must be read and should be ignored (RFC 5321 §4.1.1.3 and appendix C)."""
    try:
        for hop in route.split(","):
            check_domain(hop[1:])
    except AddressSyntaxError:
        raise CommandFault(syntax) from None
