"""A Resolver that answers out of zones in memory."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from empath.domain.errors import PermanentRefusal, TransientRefusal
from empath.domain.network import IPAddress
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.ports import MailExchanger, MailExchangers
from empath.smtp.domain_names import to_a_labels
from empath.testing.zones import Node, Zones, follow, node_of


class ZoneResolver:
    """Reads `zones` anew for every lookup, so a test may change them; `lookups` counts per name."""

    def __init__(self, zones: Zones) -> None:
        self.zones = zones
        self.lookups: list[tuple[str, str]] = []
        """Every lookup as (name, "MX" or "A")."""

    async def mail_exchangers(self, domain: str) -> MailExchangers:
        self.lookups.append((domain, "MX"))
        try:
            name = follow(self.zones, to_a_labels(domain))[-1]
            node = self._find(name, "MX")
        except ValueError:
            node = None
        if node is None:
            raise PermanentRefusal(
                Reply.of(550, "5.1.2", f"Domain {domain} does not exist"), Reason.NO_SUCH_DOMAIN
            )
        records = tuple(MailExchanger(preference, exchange.lower()) for preference, exchange in node.mx)
        return MailExchangers(records, name, authenticated=node.secure)

    async def addresses(self, host: str) -> Sequence[IPAddress]:
        self.lookups.append((host, "A"))
        try:
            name = to_a_labels(host)
        except ValueError:
            return []
        node = self._find(name, "A")
        if node is None:
            return []
        return [ipaddress.ip_address(address) for address in (*node.a, *node.aaaa)]

    def _find(self, name: str, rdtype: str) -> Node | None:
        node = node_of(self.zones, follow(self.zones, name)[-1])
        fault = node.fault_for(rdtype) if node is not None else None
        if fault == "nxdomain":
            return None
        if fault is not None or (node is not None and node.cname is not None):
            raise TransientRefusal(Reply.of(451, "4.4.3", f"DNS lookup of {name} failed"), Reason.DNS_TROUBLE)
        return node
