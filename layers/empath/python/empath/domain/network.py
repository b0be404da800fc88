"""Which addresses a relay may connect to: globally routable ones, unless policy says otherwise.

The ranges are IANA's Special-Purpose Address Registries (RFC 6890) by name, not what the interpreter's
`is_global` makes of them: that differs between its patch releases, and takes site-local addresses and some
documentation for public ones.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_6TO4 = ipaddress.IPv6Network("2002::/16")
_TEREDO = ipaddress.IPv6Network("2001::/32")
_V4_COMPATIBLE = ipaddress.IPv6Network("::/96")
_V4_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")  # RFC 2765 §2.1
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that IANA gives out (RFC 4291 §2.4)

# The first that holds names the address, so the narrow stand before the wide.
_SPECIAL: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ipaddress.ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared between carriers (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.169.254/32", "metadata service"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discarded"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("fd00:ec2::/32", "metadata service"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)


class AddressOrder(StrEnum):
    """Which of a host's addresses are tried, and which of them first."""

    IPV4_FIRST = "ipv4_first"
    IPV6_FIRST = "ipv6_first"
    IPV4_ONLY = "ipv4_only"
    IPV6_ONLY = "ipv6_only"

    def order(self, addresses: Iterable[IPAddress]) -> Sequence[IPAddress]:
        """`addresses` as they are to be tried; those of one version stay in their order."""
        first = 4 if self in (AddressOrder.IPV4_FIRST, AddressOrder.IPV4_ONLY) else 6
        is_only = self in (AddressOrder.IPV4_ONLY, AddressOrder.IPV6_ONLY)
        wanted = [address for address in addresses if not is_only or address.version == first]
        return sorted(wanted, key=lambda address: address.version != first)


def is_allowed(address: IPAddress, networks: Iterable[IPNetwork] = ()) -> bool:
    """Whether mail may go to `address`: globally routable, or inside one of `networks`.

    An IPv6 address that wraps an IPv4 one (mapped, NAT64, 6to4, Teredo, compatible) is judged by
    both, so that a private or metadata address cannot be reached by writing it differently.
    """
    return why_refused(address, networks) is None


def why_refused(address: IPAddress, networks: Iterable[IPNetwork] = ()) -> str | None:
    """What `address` is that no mail may go there, in a word or two; None when it may."""
    inner = embedded_ipv4(address)
    networks = tuple(networks)
    if any(is_inside(candidate, networks) for candidate in (address, inner) if candidate):
        return None
    if inner is not None:
        what = special_use(inner)
        if what is not None:
            return f"{what}, as {inner}"
        if _is_plain_wrapper(address):
            return None
    return special_use(address)


@lru_cache(maxsize=4096)
def special_use(address: IPAddress) -> str | None:
    """What an address is for, other than being reached from everywhere; None for a public one."""
    for network, what in _SPECIAL:
        if address.version == network.version and address in network:
            return what
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return "not given out"
    return None


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
    if address in _V4_COMPATIBLE and int(address) <= 1:
        return None  # `::` and `::1` are addresses of their own (RFC 4291 §2.5.2, §2.5.3)
    if any(address in network for network in (*_NAT64, _V4_COMPATIBLE, _V4_TRANSLATED)):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _is_plain_wrapper(address: IPAddress) -> bool:
    """Whether connecting to `address` is connecting to the IPv4 address in it, and nothing else."""
    return isinstance(address, ipaddress.IPv6Address) and (
        address.ipv4_mapped is not None or address in _NAT64[0]
    )


def without_mapping(address: IPAddress) -> IPAddress:
    """IPv4 out of an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2), all else as it is."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def is_inside(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    """Whether an address is in one of the networks; those of the other version are passed over."""
    return any(address.version == network.version and address in network for network in networks)
