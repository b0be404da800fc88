"""Mailboxes as RFC 5321 §4.1.2 writes them.

Text is already decoded (UTF-8); non-ASCII characters are carried (RFC 6531 §3.3), and whether a
session may use them is the session's decision, not this module's.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from empath.domain.errors import AddressSyntaxError

MAX_LOCAL_PART_OCTETS = 64  # RFC 5321 §4.5.3.1.1
MAX_DOMAIN_OCTETS = 255  # RFC 5321 §4.5.3.1.2
MAX_PATH_OCTETS = 256  # RFC 5321 §4.5.3.1.3, with the angle brackets
MAX_LABEL_OCTETS = 63  # RFC 1035 §2.3.4

# atext = ALPHA / DIGIT / "!#$%&'*+-/=?^_`{|}~" / UTF8-non-ascii
_ATEXT = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\u0080-\U0010ffff]"


# Compiled when first needed: classes that span all of Unicode take milliseconds each, and hardly any address
# needs them.
@cache
def _dot_string() -> re.Pattern[str]:
    # Dot-string = Atom *("." Atom)
    return re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")


@cache
def _quoted_string() -> re.Pattern[str]:
    # Quoted-string = DQUOTE *( qtextSMTP / quoted-pairSMTP ) DQUOTE
    # qtextSMTP = %d32-33 / %d35-91 / %d93-126 / UTF8-non-ascii ; quoted-pairSMTP = %d92 %d32-126
    return re.compile(r'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*"')


@cache
def _label() -> re.Pattern[str]:
    # sub-domain = (Let-dig / U-label char) [Ldh-str]
    return re.compile(
        r"[A-Za-z0-9\u0080-\U0010ffff](?:[A-Za-z0-9\-\u0080-\U0010ffff]*[A-Za-z0-9\u0080-\U0010ffff])?"
    )


# What almost every address is: ASCII, no quotes, a domain name. Anything else is read part by part below,
# which takes three times as long and says what is wrong.
_PLAIN_ATOM = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+"
_PLAIN_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"({_PLAIN_ATOM}(?:\.{_PLAIN_ATOM})*)@({_PLAIN_LABEL}(?:\.{_PLAIN_LABEL})*)")
_PLAIN_LOCAL_PART = re.compile(rf"{_PLAIN_ATOM}(?:\.{_PLAIN_ATOM})*")
_PLAIN_DOMAIN = re.compile(rf"{_PLAIN_LABEL}(?:\.{_PLAIN_LABEL})*")
# C1 controls and the line separators of Unicode are no part of any address.
_FORBIDDEN = re.compile("[\u0080-\u009f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """`local_part` without its quotes, `domain` as written (a name, or a literal in brackets)."""

    local_part: str
    domain: str

    @property
    def destination(self) -> str:
        """The domain, with case folded away."""
        return self.domain.lower()

    @property
    def is_address_literal(self) -> bool:
        return self.domain.startswith("[")

    @property
    def is_ascii(self) -> bool:
        return self.local_part.isascii() and self.domain.isascii()

    def __str__(self) -> str:
        return f"{_quote_local_part(self.local_part)}@{self.domain}"


def parse_mailbox(text: str) -> Mailbox:
    """Read `Local-part "@" ( Domain / address-literal )`.

    Raises AddressSyntaxError, whose text says what is wrong (RFC 5321 §4.1.2).
    """
    plain = _PLAIN.fullmatch(text)
    if plain is not None and plain.end(1) <= MAX_LOCAL_PART_OCTETS and len(text) <= MAX_PATH_OCTETS - 2:
        return Mailbox(plain[1], plain[2])
    if len(text.encode("utf-8", "surrogatepass")) > MAX_PATH_OCTETS - 2:
        raise AddressSyntaxError(f"address longer than {MAX_PATH_OCTETS - 2} octets")
    if _FORBIDDEN.search(text) or any("\ud800" <= char <= "\udfff" for char in text):
        raise AddressSyntaxError("address has a control character")
    if text.startswith('"'):
        match = _quoted_string().match(text)
        if match is None:
            raise AddressSyntaxError("quoted local part is not closed or has a bad character")
        local_part = re.sub(r"\\(.)", r"\1", match.group()[1:-1])
    else:
        match = _dot_string().match(text)
        if match is None:
            raise AddressSyntaxError("local part is empty or has a bad character")
        local_part = match.group()
    rest = text[match.end() :]
    if not rest.startswith("@"):
        raise AddressSyntaxError("address has no '@domain' or a bad character before it")
    if len(local_part.encode()) > MAX_LOCAL_PART_OCTETS:
        raise AddressSyntaxError(f"local part longer than {MAX_LOCAL_PART_OCTETS} octets")
    domain = rest[1:]
    check_domain(domain)
    return Mailbox(local_part, domain)


def check_domain(domain: str) -> None:
    """Raise AddressSyntaxError unless `domain` is a Domain or an address-literal."""
    if len(domain) <= MAX_DOMAIN_OCTETS and _PLAIN_DOMAIN.fullmatch(domain):
        return
    if domain.startswith("["):
        address_of_literal(domain)
        return
    if not domain:
        raise AddressSyntaxError("domain is empty")
    if len(domain.encode()) > MAX_DOMAIN_OCTETS:
        raise AddressSyntaxError(f"domain longer than {MAX_DOMAIN_OCTETS} octets")
    for label in domain.split("."):
        if not _label().fullmatch(label):
            raise AddressSyntaxError(f"domain has a bad or empty label: {label[:80]!r}")
        if label.isascii() and len(label) > MAX_LABEL_OCTETS:
            raise AddressSyntaxError(f"domain has a label longer than {MAX_LABEL_OCTETS} octets")


def address_of_literal(literal: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address in `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3)."""
    if not literal.endswith("]"):
        raise AddressSyntaxError("address literal is not closed")
    inner = literal[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            if "%" in inner:
                raise ValueError("zone ids have no place here")
            return ipaddress.IPv6Address(inner[5:])
        return ipaddress.IPv4Address(inner)
    except ValueError as error:
        raise AddressSyntaxError(f"address literal is not an IP address: {inner[:80]!r}") from error


def _quote_local_part(local_part: str) -> str:
    if _PLAIN_LOCAL_PART.fullmatch(local_part) or _dot_string().fullmatch(local_part):
        return local_part
    return '"' + re.sub(r'(["\\])', r"\\\1", local_part) + '"'


def _to_mailbox(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_mailbox(value)
    except AddressSyntaxError as error:
        raise ValueError(str(error)) from error


MailboxField = Annotated[Mailbox, BeforeValidator(_to_mailbox), PlainSerializer(str)]
"""A Mailbox as a pydantic field: text in JSON and in the ledger."""


def _host_name(value: str) -> str:
    try:
        check_domain(value)
    except AddressSyntaxError as error:
        raise ValueError(str(error)) from error
    if not value.isascii():
        raise ValueError("a host name in its ASCII form is needed")
    return value


HostName = Annotated[str, AfterValidator(_host_name)]
"""A Domain or address-literal in ASCII, as a pydantic field."""
