"""The DNS of the local internet: every domain exists, and its mail goes to the inbox.

    any domain     MX mx.inbox.test, which is where the inbox listens
    nullmx.test    accepts no mail (RFC 7505)
    nosuch.test    does not exist
    down.test      its exchanger refuses connections

The exchanger of `down.test` is another loopback address, 127.0.0.2, where nobody listens on the inbox's
port. Systems that give the loopback interface one address only let the connection time out instead;
the mail is deferred all the same. `reject.test` and `defer.test` are the inbox's own doing.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from empath.local.errors import LocalStackError
from empath.testing.dns_server import DnsServer
from empath.testing.zones import Node, Zones

INBOX_HOST = "mx.inbox.test"
DOWN_HOST = "mx.down.test"
DOWN_ADDRESS = "127.0.0.2"


def zones_of(inbox_address: str) -> Zones:
    """The local internet with its inbox at an IPv4 address."""
    return {
        "*": Node(mx=[(10, INBOX_HOST)]),
        INBOX_HOST: Node(a=[inbox_address]),
        "nullmx.test": Node(mx=[(0, "")]),
        "nosuch.test": Node(fault="nxdomain"),
        "down.test": Node(mx=[(10, DOWN_HOST)]),
        DOWN_HOST: Node(a=[DOWN_ADDRESS]),
    }


class LocalInternet(DnsServer):
    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, *, host: str = "127.0.0.1", port: int = 0, inbox_address: str = "127.0.0.1"
    ) -> AsyncIterator[LocalInternet]:
        """A DNS server that answers for the length of a block; LocalStackError when it cannot."""
        internet = cls(zones_of(inbox_address))
        try:
            await internet.start(host, port)
        except OSError as error:
            raise LocalStackError(
                f"the DNS server cannot listen on {host}:{port}: {error.strerror or error}",
                "is the port in use? Choose another one with EMPATH_DNS_PORT",
            ) from error
        try:
            yield internet
        finally:
            await internet.stop()
