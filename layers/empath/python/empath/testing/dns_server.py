"""A tiny authoritative DNS server over UDP and TCP, for tests and for the local stack.

It answers out of `empath.testing.zones` and follows CNAMEs inside them, as a recursive server would.
The zones are read anew for every query, so a test may change them while the server runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
from dns.rdataclass import IN
from dns.rdatatype import RdataType

from empath.testing.zones import Node, Zones, follow, node_of

PORT_TRIES = 20  # a free UDP port may be taken for TCP
QUERIES_KEPT = 10_000
MAX_UDP = 512  # octets without EDNS, RFC 1035 §2.3.4


@dataclass(slots=True)
class DnsServer:
    """Answers queries; `port` is known once it listens. `queries` are (name, type, "udp" or "tcp")."""

    zones: Zones
    ttl: int = 60
    """Seconds, in every answer and as the SOA minimum of negative ones."""
    port: int = 0
    queries: deque[tuple[str, str, str]] = field(default_factory=lambda: deque(maxlen=QUERIES_KEPT))
    _udp: asyncio.DatagramTransport | None = None
    _tcp: asyncio.Server | None = None

    @property
    def nameserver(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on UDP and TCP with the same number; OSError when the port is in use."""
        loop = asyncio.get_running_loop()
        for attempt in range(PORT_TRIES):
            self._tcp = await asyncio.start_server(self._serve_stream, host, port)
            self.port = self._tcp.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=(host, self.port), family=socket.AF_INET
                )
            except OSError:
                self._tcp.close()
                if port or attempt == PORT_TRIES - 1:
                    raise
            else:
                return

    async def stop(self) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = self.answer(await reader.readexactly(length), "tcp")
                    if wire is None:
                        break
                    writer.write(struct.pack("!H", len(wire)) + wire)
                    await writer.drain()
        finally:
            writer.close()

    def answer(self, wire: bytes, transport: str) -> bytes | None:
        """The response to a query, None for silence."""
        try:
            query = dns.message.from_wire(wire)
            question = query.question[0]
            response = dns.message.make_response(query, recursion_available=True)
        except (dns.exception.DNSException, IndexError):
            return None
        name, rdtype = question.name.to_text().lower().removesuffix("."), question.rdtype
        kind = dns.rdatatype.to_text(rdtype)
        self.queries.append((name, kind, transport))
        chain = follow(self.zones, name)
        node = node_of(self.zones, chain[-1])
        fault = "nxdomain" if node is None else node.fault_for(kind)
        if fault == "drop":
            return None
        if fault == "garbage":
            return b"\xff" * 7
        response.flags |= dns.flags.AA
        if node is not None and node.secure and query.flags & dns.flags.AD:
            response.flags |= dns.flags.AD
        if fault is not None:
            response.set_rcode(dns.rcode.from_text(fault))
        for owner, target in itertools.pairwise(chain):
            _add(response, owner, self.ttl, RdataType.CNAME, [_absolute(target)])
        if fault is None and node is not None:
            _add(response, chain[-1], self.ttl, rdtype, _records(node, rdtype))
        if not any(rrset.rdtype == rdtype for rrset in response.answer):
            soa = f"ns.invalid. hostmaster.invalid. 1 3600 600 86400 {self.ttl}"
            response.authority.append(dns.rrset.from_text(dns.name.root, self.ttl, IN, RdataType.SOA, soa))
        return _fit(response, query) if transport == "udp" else response.to_wire(max_size=65_535)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        wire = self._server.answer(data, "udp")
        if wire is not None and self._transport is not None:
            self._transport.sendto(wire, addr)


@contextlib.asynccontextmanager
async def serving(zones: Zones, *, ttl: int = 60) -> AsyncIterator[DnsServer]:
    """A server on a free port of the loopback interface."""
    server = DnsServer(zones, ttl=ttl)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def _records(node: Node, rdtype: RdataType) -> list[str]:
    match rdtype:
        case RdataType.MX:
            return [f"{preference} {_absolute(exchange)}" for preference, exchange in node.mx]
        case RdataType.A:
            return list(node.a)
        case RdataType.AAAA:
            return list(node.aaaa)
    return []


def _absolute(name: str) -> str:
    return f"{name}."


def _add(response: dns.message.Message, owner: str, ttl: int, rdtype: RdataType, records: list[str]) -> None:
    if records:
        response.answer.append(dns.rrset.from_text_list(_absolute(owner), ttl, IN, rdtype, records))


def _fit(response: dns.message.Message, query: dns.message.Message) -> bytes:
    """The wire form for UDP: an empty answer with TC when it is too large (RFC 2181 §9)."""
    size = max(query.payload, MAX_UDP) if query.edns >= 0 else MAX_UDP
    wire = response.to_wire(max_size=65_535)
    if len(wire) <= size:
        return wire
    short = dns.message.make_response(query, recursion_available=True)
    short.flags |= dns.flags.AA | dns.flags.TC
    return short.to_wire()
