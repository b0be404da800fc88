"""The PROXY protocol, versions 1 and 2: who a load balancer in front of us speaks for.

Sans-I/O. The header comes before anything else, TLS included, and whoever comes after it wants all octets
behind it; so a reader says how many it may be given (`wanted`), and the rest stays in the socket.

https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt, sections 2.1 and 2.2
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from empath.domain.errors import EmpathError
from empath.domain.network import IPAddress, without_mapping

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1 = b"PROXY "
MAX_V1 = 107
"""Octets of a header of version 1 with its CRLF: section 2.1 counts out the worst case."""

MAX_V2_REST = 4096
"""Octets behind the 16 of a version 2 header: addresses take 36, a balancer's own fields some dozens."""

_PREFIX = 12
_FIXED = 16

# "PROXY" SP ("TCP4" / "TCP6") SP source SP destination SP source-port SP destination-port CRLF
_V1_LINE = re.compile(
    rb"PROXY (?:(?P<unknown>UNKNOWN)(?: [^\r\n]*)?|TCP(?P<family>[46]) "
    rb"(?P<source>[0-9A-Fa-f.:]+) [0-9A-Fa-f.:]+ [0-9]{1,5} [0-9]{1,5})\r\n"
)
_LOCAL, _PROXIED = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


class ProxyFault(EmpathError):
    """A trusted network sent something else than a header; the connection is of no use."""


class ProxyReader:
    """Reads one header. `is_done` once it is complete; `client` is then who it names, None where it names
    nobody: a balancer that speaks for itself (LOCAL, UNKNOWN) is not to be taken for a client of its
    network."""

    def __init__(self) -> None:
        self.client: IPAddress | None = None
        self.is_done = False
        self._header = bytearray()
        self._wanted = _PREFIX

    @property
    def wanted(self) -> int:
        """How many octets it may be given next, at most."""
        return self._wanted

    def feed(self, octets: bytes) -> None:
        """Take the next octets, no more than `wanted`. Raises ProxyFault."""
        header = self._header
        header += octets
        self._wanted -= len(octets)
        if self._wanted:
            if not (SIGNATURE.startswith(header[:_PREFIX]) or header.startswith(_V1[: len(header)])):
                raise ProxyFault("no PROXY header")
            return
        if header.startswith(SIGNATURE):
            self._go_on_v2()
        elif header.startswith(_V1):
            self._go_on_v1()
        else:
            raise ProxyFault("no PROXY header")

    def _go_on_v1(self) -> None:
        header = self._header
        if header.endswith(b"\r\n"):
            self._end_v1()
        elif len(header) >= MAX_V1:
            raise ProxyFault("a PROXY header without an end")
        else:
            # Octet by octet: what stands behind the CRLF is not ours. A balancer uses version 2 anyway.
            self._wanted = 1

    def _end_v1(self) -> None:
        match = _V1_LINE.fullmatch(self._header)
        if match is None:
            raise ProxyFault("a malformed PROXY header")
        if not match["unknown"]:
            make = IPv4Address if match["family"] == b"4" else IPv6Address
            try:
                self.client = without_mapping(make(match["source"].decode("ascii")))
            except ValueError:
                raise ProxyFault("a PROXY header with a malformed address") from None
        self.is_done = True

    def _go_on_v2(self) -> None:
        header = self._header
        if len(header) < _FIXED:
            self._wanted = _FIXED - len(header)
            return
        rest = int.from_bytes(header[14:16], "big")
        if rest > MAX_V2_REST:
            raise ProxyFault(f"a PROXY header of {rest} octets")
        missing = _FIXED + rest - len(header)
        if missing:
            self._wanted = missing
        else:
            self._end_v2()

    def _end_v2(self) -> None:
        header = bytes(self._header)
        command, family, addresses = header[12], header[13], header[_FIXED:]
        if command == _LOCAL:
            pass
        elif command != _PROXIED:
            raise ProxyFault(f"a PROXY header of unknown version or command {command:#04x}")
        elif family == _TCP4 and len(addresses) >= 12:
            self.client = IPv4Address(addresses[:4])
        elif family == _TCP6 and len(addresses) >= 36:
            self.client = without_mapping(IPv6Address(addresses[:16]))
        elif family in {_TCP4, _TCP6}:
            raise ProxyFault("a PROXY header too short for its addresses")
        self.is_done = True
