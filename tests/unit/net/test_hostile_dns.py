"""Any octets that come as an answer are read as an answer or are DNS trouble, never another error."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

from empath.net.dns_client import DnsClient, DnsTrouble
from empath.net.nameserver import parse_nameserver
from empath.ports import DnsAnswer
from empath.ports.dns_cache import RecordType
from empath.testing.clock import START
from empath.testing.dns_server import DnsServer
from empath.testing.zones import Node

ZONES = {
    "*": Node(mx=[(10, "mx.test"), (20, "mx2.test")], a=["93.184.216.1"], aaaa=["2606::1"]),
    "alias.test": Node(cname="real.test"),
    "nosuch.test": Node(fault="nxdomain"),
}
ROUNDS = 300
AT_ONCE = 50
"""Few enough to be answered in time on a busy machine."""


@dataclass(slots=True)
class HostileServer(DnsServer):
    """Answers with octets changed, left out and put in; the id is right most of the time."""

    random: Random = field(default_factory=lambda: Random(5))

    def answer(self, wire: bytes, transport: str) -> bytes | None:
        octets = bytearray(DnsServer.answer(self, wire, transport) or b"")
        for _ in range(self.random.choice([0, 1, 1, 2, 4])):
            place = self.random.randrange(2, len(octets) + 1)
            match self.random.choice(["change", "change", "change", "cut", "insert"]):
                case "change" if place < len(octets):
                    octets[place] = self.random.randrange(256)
                case "cut" if place > 2:
                    del octets[place:]
                case _:
                    octets[place:place] = self.random.randbytes(3)
        return bytes(octets)


async def test_any_octets_are_an_answer_or_trouble() -> None:
    server = HostileServer(ZONES)
    await server.start()
    random = Random(6)
    names = ("plain.test", "alias.test", "nosuch.test")
    types: tuple[RecordType, ...] = ("MX", "A", "AAAA")

    turns = asyncio.Semaphore(AT_ONCE)

    async def ask() -> DnsAnswer | DnsTrouble:
        client = DnsClient([parse_nameserver(server.nameserver)], query_timeout=0.2)
        async with turns:
            try:
                return await client.ask(random.choice(names), random.choice(types), now=START, lifetime=0.5)
            except DnsTrouble as trouble:
                return trouble

    try:
        ends = await asyncio.gather(*(ask() for _ in range(ROUNDS)), return_exceptions=True)
    finally:
        await server.stop()
    assert [end for end in ends if not isinstance(end, DnsAnswer | DnsTrouble)] == []
    assert {type(end) for end in ends} == {DnsAnswer, DnsTrouble}
