"""Who may relay: clients in allowed networks and authenticated users to anywhere, everybody to the relay's
own domains. Nobody else, to anybody.

Default deny, so that a setting that is forgotten is a 550 and never an open relay.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from empath.domain.address import Mailbox
from empath.domain.network import IPAddress, IPNetwork, is_inside, without_mapping
from empath.domain.reply import Reply
from empath.ingress.replies import RELAYING_DENIED, SENDER_ROUTING

_ROUTING = frozenset("%!@")
"""What a local part names another host with: `user%elsewhere`, `elsewhere!user`, `"user@elsewhere"`. A next
hop of ours may still act on it and would relay for a stranger in our name."""


class RelayPolicy:
    def __init__(self, networks: Iterable[IPNetwork], relay_domains: Iterable[str] = ()) -> None:
        """A domain that begins with a dot stands for all below it, and not for itself."""
        self._networks = tuple(networks)
        names = tuple(domain.lower() for domain in relay_domains)
        self._domains = frozenset(name for name in names if not name.startswith("."))
        self._parents = tuple(name for name in names if name.startswith("."))

    def is_trusted(self, client: IPAddress | None) -> bool:
        """Whether a client's address is in an allowed network; an unknown one never is."""
        return client is not None and is_inside(client, self._networks)

    def refusal(self, mailbox: Mailbox, *, may_relay: bool) -> Reply | None:
        """The reply that a recipient gets, None if it is taken. `may_relay`: for a client in an allowed
        network or an authenticated one."""
        if may_relay:
            return None
        if not self._is_ours(mailbox.domain):
            return RELAYING_DENIED
        return None if _ROUTING.isdisjoint(mailbox.local_part) else SENDER_ROUTING

    def _is_ours(self, domain: str) -> bool:
        domain = domain.lower()
        return domain in self._domains or domain.endswith(self._parents)


def client_address(peername: object) -> IPAddress | None:
    """The address out of a socket's peer name; IPv4 out of an IPv4-mapped one (RFC 4291 §2.5.5.2)."""
    if not isinstance(peername, tuple) or not peername:
        return None
    try:
        address = ipaddress.ip_address(str(peername[0]).partition("%")[0])
    except ValueError:
        return None
    return without_mapping(address)
