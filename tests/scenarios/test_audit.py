"""The audit trail: everything once, in a chain that verifies whatever dies, and tampering shows."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from empath.domain.audit import AuditRecord
from empath.domain.audit_chain import SHARDS, Block, Head, place_of, shard_of
from empath.domain.errors import AuditTrouble, Trouble
from empath.pipeline.audit_check import Findings, check
from empath.pipeline.audit_trail import AuditTrail
from empath.testing.clock import ManualClock
from empath.testing.faults import AFTER, BEFORE, Faults, When, WorkerDied
from empath.testing.memory_audit import MemoryAudit

START = datetime(2026, 11, 21, 23, 59, 50, tzinfo=UTC)
EFFECTS = ("audit.head", "audit.put_new", "audit.get", "audit.advance")


class World:
    """A trail over a store whose calls can fail."""

    def __init__(self, start: datetime = START) -> None:
        self.clock = ManualClock(start)
        self.faults = Faults()
        self.store = MemoryAudit()
        self.trail = AuditTrail(self.faults.wrap("audit", self.store, AuditTrouble), self.clock)

    async def until_done(self, records: Sequence[AuditRecord]) -> None:
        """Append as the stream does: again and again, until it went well."""
        for _ in range(50):
            try:
                await self.trail.append(records)
            except (Trouble, WorkerDied):
                continue
            return
        raise AssertionError("never went well")

    def blocks(self) -> list[Block]:
        return [Block.decode(content) for _, content in sorted(self.store.objects.items())]

    def ids(self) -> list[str]:
        return [json.loads(line)["id"] for block in self.blocks() for line in block.lines]

    async def check(self, **days: Any) -> Findings:
        return await check(self.store, **days)


def batch(name: str, size: int = 3, message_id: str | None = None) -> list[AuditRecord]:
    return [
        AuditRecord(
            id=f"{name}/{place}",
            type="DeliverySuccess",
            at=START,
            message_id=message_id or f"M{name}",
            recipient=f"user{place}@example.com",
        )
        for place in range(size)
    ]


@pytest.fixture
def world() -> World:
    return World()


async def test_batches_become_blocks_of_a_chain_that_verifies(world: World) -> None:
    for number in range(20):
        await world.trail.append(batch(str(number)))
    findings = await world.check()
    assert findings.is_sound
    assert (findings.blocks, findings.lines) == (20, 60)
    assert sorted(world.ids()) == sorted(f"{n}/{place}" for n in range(20) for place in range(3))


async def test_nothing_to_tell_is_nothing_written(world: World) -> None:
    await world.trail.append([])
    assert world.store.objects == {}
    assert (await world.check()).is_sound


async def test_a_batch_that_is_given_again_is_in_the_trail_once(world: World) -> None:
    for _ in range(3):
        await world.trail.append(batch("a"))
        await world.trail.append(batch("b", message_id="Ma"))
    assert sorted(world.ids()) == sorted(record.id for record in batch("a") + batch("b"))


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize("after_calls", [0, 1, 2, 3])
@pytest.mark.parametrize("error", [None, WorkerDied()], ids=["trouble", "death"])
async def test_whatever_fails_or_dies_every_line_is_there_once_and_the_chain_verifies(
    world: World, effect: str, when: When, after_calls: int, error: BaseException | None
) -> None:
    world.faults.fail(effect, when=when, after_calls=after_calls, error=error)
    for number in range(6):
        # All in one chain, over midnight, each batch given twice.
        await world.until_done(batch(str(number), message_id="M"))
        await world.until_done(batch(str(number), message_id="M"))
        world.clock.advance_to(world.clock.now() + timedelta(seconds=4))
    assert world.ids() == [record.id for number in range(6) for record in batch(str(number))]
    findings = await world.check()
    assert findings.is_sound, findings.faults
    assert {place_of(key)[0].day for key in world.store.objects} == {21, 22}


@pytest.mark.parametrize("seed", range(20))
async def test_writers_at_the_same_time_and_with_clocks_apart_never_fork_a_chain(seed: int) -> None:
    world, draws = World(), random.Random(seed)

    class Slow:
        """Every call is somewhere else in time; a head that need not be fresh is the one of long ago."""

        def __init__(self) -> None:
            self.known: dict[int, Head] = {}

        def __getattr__(self, name: str) -> Callable[..., Any]:
            async def call(*args: Any, **kwargs: Any) -> Any:
                for _ in range(draws.randrange(4)):
                    await asyncio.sleep(0)
                if name == "head" and not kwargs.get("fresh", True) and args[0] in self.known:
                    return self.known[args[0]]
                result = await getattr(world.store, name)(*args, **kwargs)
                if name == "head" and result is not None:
                    self.known.setdefault(args[0], result)
                return result

            return call

    async def writer(name: int) -> None:
        store: Any = Slow()
        clock = ManualClock(START + timedelta(seconds=draws.randrange(-20, 20)))
        for number in range(6):
            records = batch(f"{name}-{number}", 1, message_id="M")
            for _ in range(draws.choice((1, 1, 2))):
                await AuditTrail(store, clock).append(records)
            clock.advance_to(clock.now() + timedelta(seconds=draws.randrange(9)))

    await asyncio.gather(*map(writer, range(4)))
    assert sorted(world.ids()) == sorted(f"{name}-{number}/0" for name in range(4) for number in range(6))
    findings = await world.check()
    assert findings.is_sound, findings.faults


async def test_a_writer_gives_up_where_others_are_always_faster(world: World) -> None:
    await world.trail.append(batch("0", message_id="M"))
    head = world.store.heads[shard_of("M")]

    class Overtaken(MemoryAudit):
        async def put_new(self, key: str, content: bytes) -> bool:
            return False

        async def get(self, key: str) -> bytes | None:
            _, shard, number = place_of(key)
            return Block(shard, number, START, f"other {number}", None, START.date()).encode()

    crowded = Overtaken()
    crowded.heads[head.shard] = head
    with pytest.raises(AuditTrouble, match="grows faster"):
        await AuditTrail(crowded, world.clock).append(batch("1", message_id="M"))


async def test_an_object_that_is_no_block_does_not_stop_the_chain_and_is_found(world: World) -> None:
    await world.trail.append(batch("0", message_id="M"))
    key = world.store.heads[shard_of("M")].next_key
    world.store.objects[key] = b"\xff no block"
    await world.trail.append(batch("1", message_id="M"))
    (fault,) = (await world.check()).faults
    assert fault.key == key
    assert "no block" in fault.what


# Tampering. One chain of ten blocks over three days.


@pytest.fixture
async def chain() -> World:
    world = World()
    for number in range(8):
        await world.trail.append(batch(str(number), message_id="M"))
        world.clock.advance_to(world.clock.now() + timedelta(hours=6))
    assert (await world.check()).is_sound
    return world


def keys_in_order(world: World) -> list[str]:
    return sorted(world.store.objects)


@pytest.mark.parametrize("place", range(10))
async def test_a_byte_that_is_changed_anywhere_is_found_with_its_object(chain: World, place: int) -> None:
    key = keys_in_order(chain)[place]
    original = chain.store.objects[key]
    for at in range(0, len(original), 7):
        octets = bytearray(original)
        octets[at] ^= 1
        chain.store.objects[key] = bytes(octets)
        (fault,) = (await chain.check()).faults
        # Where a link was changed the fault names both of its ends.
        assert key in f"{fault.key} {fault.what}", at
    chain.store.objects[key] = original
    assert (await chain.check()).is_sound


async def test_a_line_that_is_changed_removed_or_added_is_named(chain: World) -> None:
    key = next(key for key in keys_in_order(chain) if Block.decode(chain.store.objects[key]).lines)
    header, first, second, third, _ = chain.store.objects[key].decode().split("\n")
    for lines, number in (
        ((header, first, second.replace("user1", "user9"), third), 3),
        ((header, first, second), 4),
        ((header, second, first, third), 2),
        ((header, first, second, third, third), 5),
    ):
        chain.store.objects[key] = "".join(f"{line}\n" for line in lines).encode()
        (fault,) = (await chain.check()).faults
        assert (fault.key, fault.line) == (key, number)


@pytest.mark.parametrize("place", range(10))
async def test_an_object_that_is_gone_is_missed_the_last_one_included(chain: World, place: int) -> None:
    del chain.store.objects[keys_in_order(chain)[place]]
    (fault,) = (await chain.check()).faults
    assert "missing" in fault.what


async def test_everything_gone_is_missed(chain: World) -> None:
    chain.store.objects.clear()
    (fault,) = (await chain.check()).faults
    assert "missing" in fault.what


async def test_a_block_that_was_made_anew_breaks_the_link_behind_it(chain: World) -> None:
    key = keys_in_order(chain)[4]
    block = Block.decode(chain.store.objects[key])
    forged = Block(block.shard, block.number, block.at, block.batch, block.previous, block.next_day, ("{}",))
    chain.store.objects[key] = forged.encode()
    (fault,) = (await chain.check()).faults
    assert fault.key == key
    assert "written behind" in fault.what


async def test_days_can_be_checked_by_themselves(chain: World) -> None:
    days = sorted({place_of(key)[0] for key in chain.store.objects})
    assert len(days) == 3
    blocks = 0
    for day in days:
        findings = await chain.check(first=day, last=day)
        assert findings.is_sound, findings.faults
        blocks += findings.blocks
    assert blocks == len(chain.store.objects)
    assert (await chain.check(first=days[1])).is_sound
    assert (await chain.check(last=days[1])).is_sound
    last_of_first_day = max(key for key in chain.store.objects if place_of(key)[0] == days[0])
    del chain.store.objects[last_of_first_day]
    assert not (await chain.check(first=days[0], last=days[0])).is_sound
    assert not (await chain.check(first=days[1], last=days[1])).is_sound
    assert (await chain.check(first=days[2])).is_sound


async def test_an_object_outside_of_every_chain_is_found(chain: World) -> None:
    chain.store.objects["audit/2026/11/21/99/000000000001.jsonl"] = b""
    chain.store.objects["audit/notes.txt"] = b"hello"
    assert len((await chain.check()).faults) == 2


async def test_a_writer_that_died_before_the_head_moved_on_is_no_fault(chain: World) -> None:
    chain.faults.fail("audit.advance", error=WorkerDied())
    with pytest.raises(WorkerDied):
        await chain.trail.append(batch("last", message_id="M"))
    assert (await chain.check()).is_sound


async def test_a_chain_for_every_shard_is_checked(world: World) -> None:
    for number in range(40):
        await world.trail.append(batch(str(number)))
    assert set(world.store.heads) == set(range(SHARDS))
    for key in [max(key for key in world.store.objects if place_of(key)[1] == s) for s in range(SHARDS)]:
        world.store.objects[key] += b"more\n"
    assert len((await world.check()).faults) == SHARDS
