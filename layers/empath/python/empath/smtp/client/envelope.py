"""MAIL and RCPT as a client says them, with the parameters that the next hop's offer allows.

Addresses come with their ASCII form beside them, because what A-labels are is not this room's business
(`smtp.domain_names`). Nothing that could end a path or a line early is ever said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from empath.smtp.client.offer import Offer

# Path = "<" Mailbox ">", RFC 5321 §4.1.2: between the brackets neither a control character nor, outside of
# quotes, a space or a bracket.
_SAYABLE = re.compile(
    r'(?:[^"<> \x00-\x1f\x7f\ud800-\udfff]|"(?:[^"\\\x00-\x1f\x7f\ud800-\udfff]|\\[\x20-\x7e])*")*'
)
# esmtp-value = 1*(%d33-60 / %d62-126), RFC 5321 §4.1.2
_VALUE = re.compile(r"[\x21-\x3c\x3e-\x7e]+")


@dataclass(frozen=True, slots=True)
class Forward:
    """A recipient."""

    address: str
    ascii: str | None
    """The address in ASCII, its domain in A-labels; None when it has no such form."""
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None
    """`addr-type ";" xtext`, or utf-8 in any form of RFC 6533 §3."""


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """The envelope of one transaction."""

    reverse_path: str
    """Without brackets; empty for the null reverse-path."""
    reverse_ascii: str | None
    recipients: Sequence[Forward]
    size: int
    """Octets of the content, transparency not counted (RFC 1870 §5)."""
    eight_bit: bool = False
    smtputf8: bool = False
    """The message itself needs SMTPUTF8 (RFC 6531), whatever its addresses are."""
    envid: str | None = None
    ret: str | None = None

    @property
    def is_international(self) -> bool:
        return self.smtputf8 or not (
            self.reverse_path.isascii() and all(forward.address.isascii() for forward in self.recipients)
        )


def is_sayable(address: str) -> bool:
    return _SAYABLE.fullmatch(address) is not None


def mail_command(mail: OutgoingMail, offer: Offer) -> bytes:
    """`MAIL FROM:<path>` with its parameters, and CRLF."""
    has_utf8 = "SMTPUTF8" in offer
    words = [f"MAIL FROM:<{mail.reverse_path if has_utf8 else mail.reverse_ascii}>"]
    if "SIZE" in offer:
        words.append(f"SIZE={mail.size}")
    if mail.eight_bit and "8BITMIME" in offer:
        words.append("BODY=8BITMIME")
    if has_utf8 and mail.is_international:
        words.append("SMTPUTF8")
    if "DSN" in offer:
        words += _parameters({"RET": mail.ret, "ENVID": mail.envid})
    return (" ".join(words) + "\r\n").encode()


def rcpt_command(forward: Forward, offer: Offer) -> bytes:
    """`RCPT TO:<path>` with its parameters, and CRLF."""
    path = forward.address if "SMTPUTF8" in offer else forward.ascii
    words = [f"RCPT TO:<{path}>"]
    if "DSN" in offer:
        notify = ",".join(forward.notify) if forward.notify else None
        words += _parameters({"NOTIFY": notify, "ORCPT": forward.orcpt and _in_ascii(forward.orcpt)})
    return (" ".join(words) + "\r\n").encode()


def asks_for_reports(mail: OutgoingMail) -> bool:
    """Whether there is anything to say to a next hop that has DSN."""
    return bool(mail.ret or mail.envid or any(to.notify or to.orcpt for to in mail.recipients))


def _parameters(values: dict[str, str | None]) -> list[str]:
    """What can be said of them; the mail matters more than a report about it."""
    return [f"{name}={value}" for name, value in values.items() if value and _VALUE.fullmatch(value)]


def _in_ascii(orcpt: str) -> str:
    """utf-8-addr-unitext as utf-8-addr-xtext (RFC 6533 §3), which every next hop with DSN can take."""
    return re.sub(r"[^\x00-\x7f]", lambda match: rf"\x{{{ord(match[0]):X}}}", orcpt)
