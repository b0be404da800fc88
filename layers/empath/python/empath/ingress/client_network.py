"""The network that a client is counted by: one IPv4 address, or the /64 of an IPv6 one.

A /64 is the least that a host is given (RFC 4291 §2.5.4), so its single addresses tell nobody apart.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network

from empath.domain.network import IPAddress, without_mapping

IPV6_PREFIX = 64


@lru_cache(maxsize=4096)
def client_network(client: IPAddress) -> str:
    """`192.0.2.1` or `2001:db8:0:1::/64`; an IPv4 address out of one that is mapped."""
    client = without_mapping(client)
    if isinstance(client, IPv6Address):
        return str(IPv6Network((int(client), IPV6_PREFIX), strict=False))
    return str(client)
