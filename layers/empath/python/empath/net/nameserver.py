"""Name servers as settings write them; apart from the client, so that settings load no DNS library."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple


class Nameserver(NamedTuple):
    address: str
    port: int = 53


def parse_nameserver(text: str) -> Nameserver:
    """Read `address`, `address:port` or `[IPv6 address]:port`; ValueError says what is wrong."""
    address, port = text.strip(), "53"
    if address.startswith("["):
        address, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif address.count(":") == 1:
        address, _, port = address.partition(":")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ValueError(f"nameserver {text!r}: {address!r} is not an IP address") from None
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ValueError(f"nameserver {text!r}: {port!r} is not a port")
    return Nameserver(address, int(port))
