"""Next hops in a process of their own: each at its own address, each with its own ways, every connection and
message noted with its time. And a proxy between functions and AWS that counts what they ask for."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal

from empath.testing.smtp_sink import RESET, STALL, Act, Session, SmtpSink

Ways = Literal["healthy", "slow", "drop", "stall", "refuse"]
"""`slow` takes a message and says so after a while; `drop` resets each connection, `stall` says nothing,
`refuse` does not listen."""

_PROCESSES = multiprocessing.get_context("spawn")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TARGET = re.compile(rb"\r\nx-amz-target: *(\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NextHop:
    address: str
    ways: Ways = "healthy"
    delay: float = 0.0
    """Seconds until a `slow` one says that it took a message."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a next hop saw, in epoch seconds."""

    connections: list[float]
    messages: list[tuple[float, str]]
    """When the content was whole, and for whom it was."""


class _Sink(SmtpSink):
    def __init__(self, hop: NextHop) -> None:
        super().__init__(extensions=("PIPELINING", "CHUNKING", "8BITMIME", "SIZE 104857600"), history=100)
        self.hop = hop
        self.seen = Seen([], [])

    async def act(self, stage: str, argument: str, session: Session) -> Act | None:
        if stage == "connect":
            self.seen.connections.append(time.time())
            return {"drop": RESET, "stall": STALL}.get(self.hop.ways)
        return None

    async def take(self, session: Session, content: bytes) -> Act | None:
        self.seen.messages.append((time.time(), session.recipients[0]))
        return Act("250 2.0.0 Ok", delay=self.hop.delay) if self.hop.ways == "slow" else None


class _CountingProxy:
    """Hands requests on as they are, and counts them by operation and by the key that they name."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.calls: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_aws, to_aws = await asyncio.open_connection(*self.upstream)
        answers = asyncio.create_task(self._pass_on(from_aws, writer))
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.calls[_name_of(head, body)] += 1
                to_aws.write(head + body)
                await to_aws.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # the function hung up, or this process ends
        finally:
            answers.cancel()
            to_aws.close()
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(65_536):
            writer.write(octets)
            await writer.drain()
        writer.close()


def _name_of(head: bytes, body: bytes) -> str:
    """`DynamoDB UpdateItem site`, `SQS SendMessage`, `GET`: DynamoDB's with the kind of item."""
    target = _TARGET.search(head)
    if target is None:
        return head.split(b" ", 1)[0].decode()
    service, _, operation = target[1].decode().partition(".")
    if not service.startswith("DynamoDB"):
        return f"SQS {operation}"
    request = json.loads(body)
    keys = [request.get("Key") or request.get("Item") or {}]
    keys += [key for table in request.get("RequestItems", {}).values() for key in table.get("Keys", ())]
    kinds = {_kind_of(key) for key in keys if key}
    return f"DynamoDB {operation} {'+'.join(sorted(kinds))}"


def _kind_of(key: Mapping[str, Mapping[str, str]]) -> str:
    """`site` and so on for items of the control table, `message` or `delivery` for those of the ledger."""
    if "sk" in key:
        return key["sk"]["S"].partition("#")[0]
    return key["pk"]["S"].partition("#")[0]


@dataclass(slots=True)
class NextHops:
    """The process, as its parent talks to it."""

    ports: Mapping[str, int]
    """By address."""
    proxy: str
    """The URL of the counting proxy."""
    _pipe: Connection

    def seen(self, address: str) -> Seen:
        self._pipe.send(address)
        connections, messages = self._pipe.recv()
        return Seen(connections, messages)

    def calls(self) -> Counter[str]:
        """Requests through the proxy so far."""
        self._pipe.send("calls")
        calls: Counter[str] = self._pipe.recv()
        return calls

    @classmethod
    @contextmanager
    def serving(cls, hops: list[NextHop], endpoint_url: str) -> Iterator[NextHops]:
        ours, its = _PROCESSES.Pipe()
        process = _PROCESSES.Process(target=_serve, args=(its, hops, endpoint_url), daemon=True)
        process.start()
        its.close()
        try:
            ports, proxy = ours.recv()
            yield cls(ports, proxy, ours)
        finally:
            ours.close()
            process.join(10)


def _serve(pipe: Connection, hops: list[NextHop], endpoint_url: str) -> None:
    host, _, port = endpoint_url.rpartition("/")[2].rpartition(":")
    asyncio.run(_listen(pipe, hops, (host, int(port))))


async def _listen(pipe: Connection, hops: list[NextHop], upstream: tuple[str, int]) -> None:
    sinks: dict[str, _Sink] = {}
    ports: dict[str, int] = {}
    with socket.socket() as closed:
        # Bound, so that nobody else takes it, and never listened on.
        for hop in hops:
            if hop.ways == "refuse":
                closed.bind((hop.address, 0))
                ports[hop.address] = closed.getsockname()[1]
            else:
                sinks[hop.address] = await _Sink(hop).start(hop.address)
                ports[hop.address] = sinks[hop.address].port
        proxy = _CountingProxy(upstream)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=1 << 20)
        proxy_port = server.sockets[0].getsockname()[1]
        pipe.send((ports, f"http://127.0.0.1:{proxy_port}"))
        try:
            while True:
                wanted = await asyncio.to_thread(pipe.recv)
                if wanted == "calls":
                    pipe.send(proxy.calls)
                else:
                    seen = sinks[wanted].seen
                    pipe.send((list(seen.connections), list(seen.messages)))
        except EOFError:
            pass
        finally:
            for sink in sinks.values():
                await sink.stop()
            server.close()
