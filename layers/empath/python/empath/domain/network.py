"""Which addresses a relay may connect to: globally routable ones, unless policy says otherwise."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_6TO4 = ipaddress.IPv6Network("2002::/16")
_TEREDO = ipaddress.IPv6Network("2001::/32")
_V4_COMPATIBLE = ipaddress.IPv6Network("::/96")


def is_allowed(address: IPAddress, networks: Iterable[IPNetwork] = ()) -> bool:
    """Whether mail may go to `address`: globally routable, or inside one of `networks`.

    An IPv6 address that wraps an IPv4 one (mapped, NAT64, 6to4, Teredo, compatible) is judged by
    both, so that a private or metadata address cannot be reached by writing it differently.
    """
    inner = embedded_ipv4(address)
    if any(_inside(candidate, networks) for candidate in (address, inner) if candidate):
        return True
    if inner is not None:
        wrapper_is_plain_ipv4 = isinstance(address, ipaddress.IPv6Address) and (
            address.ipv4_mapped is not None or address in _NAT64[0]
        )
        return wrapper_is_plain_ipv4 and _is_public(inner)
    return _is_public(address)


def embedded_ipv4(address: IPAddress) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address wraps, if any."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _6TO4:
        return address.sixtofour
    if address in _TEREDO:
        return address.teredo[1] if address.teredo else None
    if any(address in network for network in (*_NAT64, _V4_COMPATIBLE)):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _is_public(address: IPAddress) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inside(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
