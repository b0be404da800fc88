"""ports.Dialer and ports.Channel: the scripts in memory, and real sessions with a sink of the same script,
with a pool of connections and without."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import pytest
import pytest_asyncio

from empath.domain.errors import PermanentRefusal, SpoolTrouble, TransientRefusal
from empath.domain.outcome import Deferred, Failed, RecipientOutcome, Sent, outcome_of_reply
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.net.dialer import SmtpDialer
from empath.net.pool import ConnectionPool
from empath.ports import Dialer, Endpoint, Transaction
from empath.system import SystemClock
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.metrics import CountedMetrics
from empath.testing.smtp_sink import DROP, SmtpSink

ANN, BOB = "ann@example.test", "bob@example.test"
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
HOST = "mx.example.test"


class World(Protocol):
    """A dialer, and a next hop that can be told what to do."""

    @property
    def dialer(self) -> Dialer: ...
    @property
    def port(self) -> int: ...
    def greet_with(self, reply: str) -> None: ...
    def answer(self, recipient: str, reply: str) -> None: ...
    def vanish_after_the_final_dot(self) -> None: ...
    def contents(self) -> list[tuple[str, tuple[str, ...], bytes]]: ...


def heard(reply: str) -> Reply:
    return Reply.heard(int(reply[:3]), reply[4:])


@dataclass
class MemoryWorld:
    dialer: ScriptedDialer
    port: int = 25

    def greet_with(self, reply: str) -> None:
        kind = PermanentRefusal if reply.startswith("5") else TransientRefusal
        self.dialer.host(HOST).refusal = kind(heard(reply), Reason.NEXT_HOP_REPLY)

    def answer(self, recipient: str, reply: str) -> None:
        self.dialer.host(HOST).outcomes[recipient] = outcome_of_reply(heard(reply))

    def vanish_after_the_final_dot(self) -> None:
        self.dialer.host(HOST).ambiguous = 1

    def contents(self) -> list[tuple[str, tuple[str, ...], bytes]]:
        return [(seen.reverse_path, seen.recipients, seen.content) for seen in self.dialer.messages]


@dataclass
class SocketWorld:
    dialer: Dialer
    sink: SmtpSink

    @property
    def port(self) -> int:
        return self.sink.port

    def greet_with(self, reply: str) -> None:
        self.sink.script["connect"] = reply

    def answer(self, recipient: str, reply: str) -> None:
        self.sink.script[f"RCPT {recipient}"] = reply

    def vanish_after_the_final_dot(self) -> None:
        self.sink.script["message"] = [DROP]

    def contents(self) -> list[tuple[str, tuple[str, ...], bytes]]:
        return [(seen.reverse_path, seen.recipients, seen.content) for seen in self.sink.messages]


@pytest_asyncio.fixture(params=["memory", "sockets", "pool"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld(ScriptedDialer())
        return
    async with SmtpSink() as sink:
        dialer = SmtpDialer("relay.example.test")
        if request.param == "sockets":
            yield SocketWorld(dialer, sink)
            return
        pool = ConnectionPool(dialer, SystemClock(), CountedMetrics())
        yield SocketWorld(pool, sink)
        await pool.close()


def endpoint(world: World, address: str = "127.0.0.1") -> Endpoint:
    return Endpoint(HOST, ipaddress.ip_address(address), world.port, allow_addresses=LOOPBACK)


def transaction(content: bytes = b"Subject: x\r\n\r\nx\r\n") -> Transaction:
    async def read() -> AsyncIterator[bytes]:
        yield content[:5]
        yield content[5:]

    return Transaction("sender@example.test", [ANN, BOB], read, len(content))


async def test_every_recipient_is_sent_what_was_handed_over(world: World) -> None:
    channel = await world.dialer.connect(endpoint(world), deadline=10)
    result = await channel.transact(transaction())
    await channel.close()
    assert list(result.outcomes) == [ANN, BOB]
    assert all(isinstance(outcome, Sent) for outcome in result.outcomes.values())
    assert not result.ambiguous
    assert channel.tls is None
    assert world.contents() == [("sender@example.test", (ANN, BOB), b"Subject: x\r\n\r\nx\r\n")]


async def test_each_recipient_has_its_own_outcome(world: World) -> None:
    world.answer(BOB, "550 5.1.1 Unknown")
    channel = await world.dialer.connect(endpoint(world), deadline=10)
    outcomes = (await channel.transact(transaction())).outcomes
    await channel.close()
    expected: RecipientOutcome = Failed(Reply.of(550, "5.1.1", "Unknown"))
    assert isinstance(outcomes[ANN], Sent)
    assert outcomes[BOB] == expected
    assert [recipients for _, recipients, _ in world.contents()] == [(ANN,)]


async def test_nothing_is_sent_when_everybody_is_refused(world: World) -> None:
    world.answer(ANN, "450 4.2.1 Later")
    world.answer(BOB, "550 5.1.1 Unknown")
    channel = await world.dialer.connect(endpoint(world), deadline=10)
    outcomes = (await channel.transact(transaction())).outcomes
    await channel.close()
    assert isinstance(outcomes[ANN], Deferred)
    assert isinstance(outcomes[BOB], Failed)
    assert world.contents() == []


async def test_a_refusal_at_connect_carries_its_reply(world: World) -> None:
    world.greet_with("554 5.7.1 Not you")
    with pytest.raises(PermanentRefusal, match=r"554 5\.7\.1 Not you"):
        await world.dialer.connect(endpoint(world), deadline=10)
    world.greet_with("421 4.3.2 Busy")
    with pytest.raises(TransientRefusal, match=r"421 4\.3\.2 Busy"):
        await world.dialer.connect(endpoint(world), deadline=10)


async def test_a_reply_that_never_came_makes_the_result_ambiguous(world: World) -> None:
    world.vanish_after_the_final_dot()
    channel = await world.dialer.connect(endpoint(world), deadline=10)
    result = await channel.transact(transaction())
    await channel.close()
    assert result.ambiguous
    assert [outcome.reason for outcome in result.outcomes.values()] == [Reason.CONNECTION_LOST] * 2
    assert all(isinstance(outcome, Deferred) for outcome in result.outcomes.values())
    assert len(world.contents()) == 1


async def test_content_that_cannot_be_read_is_raised_and_nothing_is_sent(world: World) -> None:
    async def read() -> AsyncIterator[bytes]:
        yield b"Subject: x\r\n"
        raise SpoolTrouble("gone")

    channel = await world.dialer.connect(endpoint(world), deadline=10)
    with pytest.raises(SpoolTrouble):
        await channel.transact(Transaction("", [ANN], read, 12))
    await channel.close()
    assert world.contents() == []


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "0.0.0.0"])
async def test_addresses_outside_of_the_internet_are_refused_for_good(world: World, address: str) -> None:
    with pytest.raises(PermanentRefusal) as caught:
        await world.dialer.connect(endpoint(world, address), deadline=10)
    assert caught.value.reason is Reason.ADDRESS_NOT_ALLOWED
    assert str(caught.value.reply.status) == "5.4.4"


async def test_closing_again_is_harmless(world: World) -> None:
    channel = await world.dialer.connect(endpoint(world), deadline=10)
    await channel.close()
    await channel.close()


async def test_a_channel_carries_several_transactions_until_it_is_closed(world: World) -> None:
    channel = await world.dialer.connect(endpoint(world), deadline=10)
    for _ in range(3):
        result = await channel.transact(transaction(), deadline=10)
        assert all(isinstance(outcome, Sent) for outcome in result.outcomes.values())
        assert await channel.reset(deadline=10)
    signs = [channel.is_usable]
    await channel.close()
    signs += [channel.is_usable, await channel.reset()]
    assert signs == [True, False, False]
    assert len(world.contents()) == 3


async def test_a_channel_that_was_lost_is_not_usable(world: World) -> None:
    world.vanish_after_the_final_dot()
    channel = await world.dialer.connect(endpoint(world), deadline=10)
    await channel.transact(transaction())
    assert not channel.is_usable
    assert not await channel.reset()
    await channel.close()
