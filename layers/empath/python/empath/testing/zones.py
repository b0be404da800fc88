"""What an invented DNS answers, for the resolver in memory and for the DNS server alike.

    {
        "example.test": Node(mx=[(10, "mx.example.test")]),
        "mx.example.test": Node(a=["127.0.0.1"]),
        "lame.test": Node(fault="servfail"),
        "*": Node(mx=[(10, "mx.inbox.test")]),
    }

A name that is not listed does not exist, unless `*` answers for it. Names are A-labels in lower case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Fault = Literal["nxdomain", "servfail", "refused", "notimp", "formerr", "drop", "garbage"]
"""`drop`: no answer at all; `garbage`: a datagram that is no DNS message."""

MAX_CHAIN = 8


@dataclass(frozen=True, slots=True)
class Node:
    """The records of one name; a null MX (RFC 7505) is `(0, "")`."""

    mx: Sequence[tuple[int, str]] = ()
    a: Sequence[str] = ()
    aaaa: Sequence[str] = ()
    cname: str | None = None
    fault: Fault | None = None
    fault_types: tuple[str, ...] = ("MX", "A", "AAAA")
    """Query types that `fault` is for."""
    secure: bool = False
    """Answers have the AD bit, as from a name server that validates DNSSEC."""

    def fault_for(self, rdtype: str) -> Fault | None:
        return self.fault if rdtype in self.fault_types else None


Zones = Mapping[str, Node]


def node_of(zones: Zones, name: str) -> Node | None:
    """The node of `name`, or the one for every other name, or None: it does not exist."""
    return zones.get(name.lower().removesuffix("."), zones.get("*"))


def follow(zones: Zones, name: str) -> list[str]:
    """`name` and what its CNAMEs lead to, at most MAX_CHAIN of them."""
    chain = [name]
    while len(chain) <= MAX_CHAIN:
        node = node_of(zones, chain[-1])
        if node is None or node.cname is None:
            break
        chain.append(node.cname)
    return chain
