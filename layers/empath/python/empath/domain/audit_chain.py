"""The form in which audit lines are kept: blocks, each with the SHA-256 of the one before it in its shard.

    audit/2026/11/21/03/000000000017.jsonl

        {"v":1,"shard":3,"number":17,"batch":"...","previous":{"key":"...","sha256":"..."},"next_day":...}
        {"v":1,"id":"...","type":"DeliverySuccess",...}
        ...

The first line is the block's header; it has a digest of every line below. Where block n + 1 of a shard lies
is said by block n (`next_day`) and by nothing else, so two writers that do not know of each other want the
same key, and the store lets one of them have it: that is all that keeps a chain from forking, over midnight
too.
docs/decisions/061-audit.md.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from empath.domain.instant import format_instant

SCHEMA = 1
SHARDS = 4
"""Chains of a deployment. As many writers append at the same time without getting in each other's way; a
stream has one writer per shard of its own, and Lambda does not tell which shard that is."""

RECENT = 32
"""Batches that a chain's head remembers, to know one that is given again."""

PREFIX = "audit/"
_DIGEST_KEPT = 16
"""Hex digits of a line's digest: enough to name a line that was changed; the block's digest proves it."""


class UnreadableBlock(ValueError):
    """An object that is no block; the text says why."""


def shard_of(message_id: str) -> int:
    return zlib.crc32(message_id.encode()) % SHARDS


def day_prefix(day: date) -> str:
    """Where the blocks of a day lie."""
    return f"{PREFIX}{day:%Y/%m/%d}/"


def key_of(day: date, shard: int, number: int) -> str:
    return f"{day_prefix(day)}{shard:02d}/{number:012d}.jsonl"


def place_of(key: str) -> tuple[date, int, int]:
    """Day, shard and number of a key. ValueError for any other key."""
    prefix, year, month, day, shard, name = key.split("/")
    number, dot, suffix = name.partition(".")
    if prefix + "/" != PREFIX or (dot, suffix) != (".", "jsonl"):
        raise ValueError(f"not the key of a block: {key[:100]!r}")
    return date(int(year), int(month), int(day)), int(shard), int(number)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_of_line(line: str) -> str:
    return sha256_of(line.encode())[:_DIGEST_KEPT]


@dataclass(frozen=True, slots=True)
class Link:
    """A block as others name it."""

    key: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Block:
    shard: int
    number: int
    """From 1, without a gap."""
    at: datetime
    batch: str
    """Names the batch whose lines these are; empty for one that only closes a day."""
    previous: Link | None
    next_day: date
    lines: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    """Of the lines as they were written."""

    def encode(self) -> bytes:
        header = {
            "v": SCHEMA,
            "shard": self.shard,
            "number": self.number,
            "at": format_instant(self.at),
            "batch": self.batch,
            "previous": {"key": self.previous.key, "sha256": self.previous.sha256} if self.previous else None,
            "next_day": self.next_day.isoformat(),
            "lines": [digest_of_line(line) for line in self.lines],
        }
        first = json.dumps(header, separators=(",", ":"))
        return "".join(f"{line}\n" for line in (first, *self.lines)).encode()

    @classmethod
    def decode(cls, content: bytes) -> Block:
        """Raises UnreadableBlock. Lines that were changed are for `changed_lines` to find."""
        try:
            first, *lines = content.decode().split("\n")
            header: dict[str, Any] = json.loads(first)
            if header["v"] != SCHEMA:
                raise UnreadableBlock(f"a block of version {header['v']!r} where this release reads {SCHEMA}")
            if not lines or lines.pop() != "":
                raise UnreadableBlock("the last line has no end")
            previous = header["previous"]
            return cls(
                shard=int(header["shard"]),
                number=int(header["number"]),
                at=datetime.fromisoformat(header["at"]),
                batch=str(header["batch"]),
                previous=Link(str(previous["key"]), str(previous["sha256"])) if previous else None,
                next_day=date.fromisoformat(header["next_day"]),
                lines=tuple(lines),
                digests=tuple(map(str, header["lines"])),
            )
        except UnreadableBlock:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnreadableBlock(f"no header of a block: {type(error).__name__}: {error}") from None

    def changed_lines(self) -> list[int]:
        """Lines of the object (its header is 1) that are not what the header says, or are not there."""
        wrong = [
            number
            for number, (line, digest) in enumerate(zip(self.lines, self.digests, strict=False), start=2)
            if digest_of_line(line) != digest
        ]
        shorter, longer = sorted((len(self.lines), len(self.digests)))
        return wrong + list(range(shorter + 2, longer + 2))


@dataclass(frozen=True, slots=True)
class Head:
    """The last block of a shard, as far as is known: a hint, for the store of blocks decides."""

    shard: int
    number: int
    """0: there is no block yet."""
    next_day: date
    last: Link | None = None
    recent: tuple[str, ...] = ()
    """Batches of the last blocks, the newest last."""

    @property
    def next_key(self) -> str:
        return key_of(self.next_day, self.shard, self.number + 1)

    def block(self, *, at: datetime, batch: str, lines: Sequence[str]) -> Block:
        """The next block of the chain; where `at` is on a later day, one that closes the day before."""
        closes = self.next_day < at.date()
        return Block(
            shard=self.shard,
            number=self.number + 1,
            at=at,
            batch="" if closes else batch,
            previous=self.last,
            next_day=max(self.next_day, at.date()),
            lines=() if closes else tuple(lines),
        )

    def after(self, content: bytes) -> Head:
        """The head once `content` has the next key, whatever that is.

        What is no block counts as one without lines: the chain goes on behind it, and tells of it.
        """
        link = Link(self.next_key, sha256_of(content))
        try:
            block = Block.decode(content)
        except UnreadableBlock:
            return replace(self, number=self.number + 1, last=link)
        recent = (*self.recent, block.batch)[-RECENT:] if block.batch else self.recent
        return replace(
            self,
            number=self.number + 1,
            last=link,
            next_day=max(self.next_day, block.next_day),
            recent=recent,
        )
