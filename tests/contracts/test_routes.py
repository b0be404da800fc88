"""The Route contract: every kind against what takes, refuses, defers, loses mail or says nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import pytest_asyncio

from empath.domain.errors import LeaseLost, SpoolObjectMissing, SpoolTrouble
from empath.domain.outcome import Deferred, Failed, Sent
from empath.domain.policy import read_policy
from empath.domain.reason import Reason
from empath.domain.tls import TlsSession
from empath.pipeline.routes import RouteTable, ToNowhere
from empath.ports import Handover, Transaction
from tests.contracts.route_worlds import DESTINATION, KINDS, World, world_of

ANN, BOB = "ann@dest.test", "bob@dest.test"
CONTENT = b"Subject: x\r\n\r\n.x\xff\r\n"


@pytest_asyncio.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world_of(request.param) as made:
        yield made


def transaction(
    content: bytes = CONTENT, recipients: Sequence[str] = (ANN, BOB), **fields: object
) -> Transaction:
    async def read() -> AsyncIterator[bytes]:
        yield content[:5]
        yield content[5:]

    return Transaction("us@us.test", recipients, read, len(content), name="id/delivery#dest.test", **fields)  # type: ignore[arg-type]


async def deliver(world: World, mail: Transaction, *, within: float = 10) -> Handover:
    next_hop = await world.route.find(DESTINATION, world.policy)
    return await next_hop.deliver(mail, time_left=lambda: within)


async def test_what_is_handed_over_arrives_as_it_is_and_everybody_is_sent(world: World) -> None:
    done = await deliver(world, transaction())
    assert list(done.outcomes) == [ANN, BOB]
    assert all(isinstance(outcome, Sent) for outcome in done.outcomes.values())
    assert not done.ambiguous
    assert done.next_hop
    assert done.tls is None or TlsSession.read(done.tls).is_verified
    assert world.received() == [("us@us.test", (ANN, BOB), CONTENT)]


async def test_large_content_arrives_as_it_is(world: World) -> None:
    content = b"Subject: x\r\n\r\n" + b"0123456789abcdef 0123456789abcdef\r\n" * 80_000
    done = await deliver(world, transaction(content))
    assert all(isinstance(outcome, Sent) for outcome in done.outcomes.values())
    assert [seen[2] == content for seen in world.received()] == [True]


async def test_refused_for_good_fails_with_the_words_of_the_next_hop(world: World) -> None:
    world.meets("refused")
    done = await deliver(world, transaction())
    assert {type(outcome) for outcome in done.outcomes.values()} == {Failed}
    assert "Not" in done.outcomes[ANN].reply.text
    assert not done.ambiguous


async def test_refused_for_now_defers(world: World) -> None:
    world.meets("deferred")
    done = await deliver(world, transaction())
    assert {type(outcome) for outcome in done.outcomes.values()} == {Deferred}
    assert done.outcomes[ANN].reply.is_transient
    assert not done.ambiguous


async def test_a_message_whose_answer_is_lost_is_deferred_and_ambiguous(world: World) -> None:
    world.meets("lost")
    done = await deliver(world, transaction())
    assert {type(outcome) for outcome in done.outcomes.values()} == {Deferred}
    assert done.ambiguous
    assert len(world.received()) == 1


async def test_a_message_that_nobody_answers_for_is_deferred_and_ambiguous(world: World) -> None:
    world.meets("silent")
    done = await deliver(world, transaction(), within=0.5)
    assert {outcome.reason for outcome in done.outcomes.values()} == {Reason.TIMEOUT}
    assert done.ambiguous


async def test_where_nobody_is_there_the_message_is_deferred_and_certainly_not_taken(world: World) -> None:
    world.meets("gone")
    done = await deliver(world, transaction())
    assert {type(outcome) for outcome in done.outcomes.values()} == {Deferred}
    assert not done.ambiguous
    assert world.received() == []


async def test_without_time_nothing_is_sent(world: World) -> None:
    done = await deliver(world, transaction(), within=0)
    assert {type(outcome) for outcome in done.outcomes.values()} == {Deferred}
    assert world.received() == []


@pytest.mark.parametrize("error", [SpoolTrouble("not now"), SpoolObjectMissing("gone")])
async def test_content_that_cannot_be_read_is_no_message(world: World, error: Exception) -> None:
    async def read() -> AsyncIterator[bytes]:
        yield b"Subject: half\r\n"
        raise error

    with pytest.raises(type(error)):
        await deliver(world, Transaction("us@us.test", [ANN], read, 100, name="id"))
    assert world.received() == []


async def test_what_may_commit_is_announced_while_nothing_is_taken_yet(world: World) -> None:
    taken: list[int] = []

    async def note() -> None:
        taken.append(len(world.received()))

    await deliver(world, transaction(before_commit=note))
    assert taken == [0]
    assert len(world.received()) == 1


async def test_what_may_not_commit_is_not_taken(world: World) -> None:
    async def forbid() -> None:
        raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        await deliver(world, transaction(before_commit=forbid))
    assert world.received() == []


async def test_what_is_refused_before_the_message_is_never_announced() -> None:
    announced: list[str] = []

    async def note() -> None:
        announced.append("commit")

    async with world_of("lmtp") as world:
        world.sink.script["RCPT"] = "550 5.1.1 Unknown"  # type: ignore[attr-defined]
        done = await deliver(world, transaction(before_commit=note))
    assert {type(outcome) for outcome in done.outcomes.values()} == {Failed}
    assert announced == []


@pytest.mark.parametrize("kind", ["mx", "smarthost", "lmtp"])
async def test_the_site_is_the_same_for_the_same_hosts(kind: str) -> None:
    async with world_of(kind) as world:
        sites = {(await world.route.find(name, world.policy)).site for name in (DESTINATION, DESTINATION)}
    assert len(sites) == 1


async def test_the_sink_takes_everything_and_reads_nothing() -> None:
    def unread() -> AsyncIterator[bytes]:
        raise AssertionError("content was read")

    policy = read_policy({"route": {"kind": "sink"}})
    next_hop = await ToNowhere().find(DESTINATION, policy)
    done = await next_hop.deliver(Transaction("", [ANN], unread, 10), time_left=lambda: 1)
    assert [type(outcome) for outcome in done.outcomes.values()] == [Sent]
    assert next_hop.site == "sink"


async def test_a_route_is_made_when_it_is_first_needed_and_once() -> None:
    made: list[str] = []

    def maker(name: str) -> Callable[[], object]:
        async def make() -> ToNowhere:
            made.append(name)
            return ToNowhere()

        return make

    table = RouteTable({"sink": maker("sink"), "mx": maker("mx")})  # type: ignore[dict-item]
    policy = read_policy({"route": {"kind": "sink"}})
    await table.find(DESTINATION, policy)
    await table.find(DESTINATION, policy)
    assert made == ["sink"]
