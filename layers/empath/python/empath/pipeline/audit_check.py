"""Whether the audit trail is what was written: every link, every number, every line, up to each chain's head.

What it cannot see: a change by somebody who may write both the blocks and the heads, and made the rest of the
chain anew. Object lock on the bucket keeps that from happening; docs/decisions/061-audit.md.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date

from empath.domain.audit_chain import (
    SHARDS,
    Block,
    Head,
    Link,
    UnreadableBlock,
    key_of,
    place_of,
    sha256_of,
)
from empath.pipeline.audit_reading import objects_of_days
from empath.ports import Audit


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is wrong in a chain."""

    shard: int
    key: str
    what: str
    line: int | None = None
    """Of the object, its header being 1; for a line that was changed, added or removed."""


@dataclass(slots=True)
class Findings:
    blocks: int = 0
    lines: int = 0
    faults: list[Fault] = field(default_factory=list)
    """At most one for each chain, and one for each object that has no place in any."""

    @property
    def is_sound(self) -> bool:
        return not self.faults


async def check(audit: Audit, *, first: date | None = None, last: date | None = None) -> Findings:
    """Check the blocks that lie under the days from `first` to `last`, both included; None has no bound.

    May run while blocks are being written. Raises AuditTrouble.
    """
    # Before the blocks are listed, so that none that a head knows is missed because it came in between.
    heads = await asyncio.gather(*(audit.head(shard) for shard in range(SHARDS)))
    chains = {shard: _Chain(audit, shard, head, last) for shard, head in enumerate(heads)}
    findings = Findings()
    async with aclosing(objects_of_days(audit, first, last)) as objects:
        async for key, content in objects:
            try:
                _, shard, number = place_of(key)
                chain = chains[shard]
            except (ValueError, KeyError):
                findings.faults.append(Fault(-1, key, "this object is no block of any chain"))
                continue
            await chain.meet(key, number, content, findings)
    for chain in chains.values():
        await chain.end(first)
    findings.faults += [chain.fault for chain in chains.values() if chain.fault is not None]
    return findings


class _Chain:
    """The walk along one chain, up to its first fault."""

    def __init__(self, audit: Audit, shard: int, head: Head | None, last_day: date | None) -> None:
        self._audit = audit
        self._shard = shard
        self._head = head
        self._last_day = last_day
        self._number: int | None = None
        self._link: Link | None = None
        self._next_day: date | None = None
        self.fault: Fault | None = None

    async def meet(self, key: str, number: int, content: bytes | None, findings: Findings) -> None:
        """The next block that is there."""
        if self.fault is not None:
            return None
        if content is None:
            return self._fail(key, "this object is missing: it was listed and is gone")
        try:
            block = Block.decode(content)
        except UnreadableBlock as error:
            return self._fail(key, f"this object is no block: {error}", line=1)
        findings.blocks += 1
        findings.lines += len(block.lines)
        if changed := block.changed_lines():
            return self._fail(key, "this line was changed, added or removed", line=changed[0])
        if (block.shard, block.number) != (self._shard, number):
            return self._fail(
                key, f"this object says that it is block {block.number} of shard {block.shard}", 1
            )
        await self._check_link(key, block)
        self._number, self._link = number, Link(key, sha256_of(content))
        self._next_day = block.next_day
        head = self._head
        is_last_known = head is not None and head.number == number
        if self.fault is None and is_last_known and head is not None and head.last != self._link:
            self._fail(key, "this object is not what was written: the chain's head has another digest for it")
        return None

    async def _check_link(self, key: str, block: Block) -> None:
        if self._number is None:
            # Where the range begins. The block before it was written earlier and must still be what it was.
            if block.previous is None:
                if block.number > 1:
                    self._fail(key, "this object has no predecessor, and is not the first", 1)
                return
            before = await self._audit.get(block.previous.key)
            if before is None:
                self._fail(block.previous.key, f"this object is missing: {key} follows it")
            elif sha256_of(before) != block.previous.sha256:
                self._fail(block.previous.key, f"this object is not what {key} was written behind")
        elif block.number != self._number + 1:
            self._fail(
                key, f"blocks {self._number + 1} to {block.number - 1} of shard {self._shard} are missing"
            )
        elif block.previous != self._link and self._link is not None:
            if block.previous is not None and block.previous.key == self._link.key:
                self._fail(self._link.key, f"this object is not what {key} was written behind")
            else:
                self._fail(key, "the link is broken: this object names another predecessor", 1)

    async def end(self, first_day: date | None) -> None:
        """After the last block that is there."""
        head = self._head
        if self.fault is not None:
            return
        if head is None or head.last is None:
            if head is None and self._number is not None:
                self._fail("", f"shard {self._shard} has blocks and no head: its end cannot be known")
            return
        if self._number is None:
            # Nothing in the range is right only if the chain was elsewhere all the time.
            day = place_of(head.last.key)[0]
            if (first_day is None or day >= first_day) and (self._last_day is None or day <= self._last_day):
                self._fail(head.last.key, f"all blocks of shard {self._shard} up to this one are missing")
            return
        goes_on = (
            self._last_day is not None and self._next_day is not None and self._next_day > self._last_day
        )
        if self._number < head.number and not goes_on and self._next_day is not None:
            missing = key_of(self._next_day, self._shard, self._number + 1)
            self._fail(missing, f"this object is missing: the chain goes on to block {head.number}")

    def _fail(self, key: str, what: str, line: int | None = None) -> None:
        if self.fault is None:
            self.fault = Fault(self._shard, key, what, line)
