"""Trace information (RFC 5321 §4.4): the `Received` field that goes in front of a message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from empath.domain.address import check_domain
from empath.domain.envelope import Recipient
from empath.domain.errors import AddressSyntaxError
from empath.domain.network import IPAddress

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._\-]")


def received_field(
    *,
    helo: str,
    protocol: str,
    client: IPAddress | None,
    hostname: str,
    message_id: str,
    recipients: Sequence[Recipient],
    at: datetime,
) -> str:
    """The whole field, folded, with its final CRLF.

    `for` stands there only for a single recipient, so that no recipient reads of another
    (RFC 5321 §7.6), and only in ASCII, so that the field needs no SMTPUTF8 by itself.
    """
    # Time-stamp-line = "Received:" FWS From-domain By-domain Opt-info [CFWS] ";" FWS date-time
    # From-domain = "FROM" FWS Extended-Domain    By-domain = CFWS "BY" FWS Extended-Domain
    # Extended-Domain = Domain / ( ( Domain / address-literal ) FWS "(" TCP-info ")" )
    tcp_info = f" ({address_literal(client)})" if client is not None else ""
    is_told = len(recipients) == 1 and recipients[0].mailbox.is_ascii
    only = f"\r\n\tfor <{recipients[0].mailbox}>" if is_told else ""
    return (
        f"Received: from {_clean_helo(helo)}{tcp_info}\r\n"
        f"\tby {hostname} with {protocol} id {message_id}{only};\r\n"
        f"\t{format_date(at)}\r\n"
    )


def protocol_of(*, esmtp: bool, smtputf8: bool, tls: bool = False, authenticated: bool = False) -> str:
    """How a message came, in the words of RFC 3848 and RFC 6531 §4.3: `ESMTPS`, `UTF8SMTP` and so on."""
    if not (esmtp or smtputf8):
        return "SMTP"
    return f"{'UTF8SMTP' if smtputf8 else 'ESMTP'}{'S' if tls else ''}{'A' if authenticated else ''}"


@lru_cache(maxsize=1024)
def address_literal(address: IPAddress) -> str:
    """`[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3)."""
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


def format_date(at: datetime) -> str:
    """`date-time` of RFC 5322 §3.3, in UTC."""
    return _date_of_second(int(at.timestamp() // 1))


@lru_cache(maxsize=16)
def _date_of_second(seconds: int) -> str:
    utc = datetime.fromtimestamp(seconds, UTC)
    return (
        f"{_DAYS[utc.weekday()]}, {utc.day} {_MONTHS[utc.month - 1]} {utc.year:04d}"
        f" {utc.hour:02d}:{utc.minute:02d}:{utc.second:02d} +0000"
    )


@lru_cache(maxsize=1024)
def _clean_helo(name: str) -> str:
    """The name that the client gave, with all that is not part of a name made harmless."""
    try:
        check_domain(name)
    except AddressSyntaxError:
        return _NOT_IN_A_NAME.sub("?", name)
    return name
