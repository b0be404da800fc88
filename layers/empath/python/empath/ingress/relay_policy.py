"""Who may relay: clients inside of allowed networks, to anywhere. Nobody else, to anybody.

Default deny, so that a setting that is forgotten is a 550 and never an open relay.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from empath.domain.address import Mailbox
from empath.domain.network import IPAddress, IPNetwork
from empath.domain.reply import Reply
from empath.ingress.replies import RELAYING_DENIED


class RelayPolicy:
    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        self._networks = tuple(networks)

    def is_trusted(self, client: IPAddress | None) -> bool:
        """Whether a client's address is in an allowed network; an unknown one never is."""
        if client is None:
            return False
        return any(client.version == network.version and client in network for network in self._networks)

    def refusal(self, mailbox: Mailbox, *, client_is_trusted: bool) -> Reply | None:
        """The reply that a recipient gets, None if it may be relayed to."""
        return None if client_is_trusted else RELAYING_DENIED


def client_address(peername: object) -> IPAddress | None:
    """The address out of a socket's peer name; IPv4 out of an IPv4-mapped one (RFC 4291 §2.5.5.2)."""
    if not isinstance(peername, tuple) or not peername:
        return None
    try:
        address = ipaddress.ip_address(str(peername[0]).partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
