"""Everything that is stored, page by page: for comparing the spool with the ledger.

Nothing here is on the path of mail. Pages are eventually consistent and therefore hints; `story` and `object`
are what a decision may rest on. Raises SpoolTrouble or LedgerTrouble when a store does not answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from empath.domain.records import DeliveryRecord, MessageRecord


@dataclass(frozen=True, slots=True)
class RawObject:
    """A raw message in the spool."""

    key: str
    size: int
    """Octets."""
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class Upload:
    """A raw message of which parts are stored and that is no object (yet)."""

    key: str
    upload_id: str
    begun_at: datetime


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An item of the ledger that this release cannot read."""

    message_id: str
    name: str
    """`message` or `delivery#<domain>`, or what else it is called."""
    fault: str


Item = MessageRecord | DeliveryRecord | Unreadable


class Inventory(Protocol):
    def objects(self) -> AsyncIterator[Sequence[RawObject]]:
        """Pages of all raw objects, in the order of their keys."""

    async def object(self, key: str) -> RawObject | None:
        """A consistent read; None when there is none."""

    def uploads(self) -> AsyncIterator[Sequence[Upload]]:
        """Pages of all uploads that were begun and are neither done nor given up."""

    async def give_up(self, upload: Upload) -> None:
        """Remove the parts of an upload; one that is over already is success."""

    def unclosed(self, segment: int, segments: int) -> AsyncIterator[Sequence[Item]]:
        """Pages of the items that the store is not going to forget: messages that are not closed, deliveries
        that are not final. All segments together give each of them."""

    async def closed(self, message_ids: Collection[str]) -> Mapping[str, bool]:
        """Whether messages are closed (`forget_at` is set); those that the ledger has."""

    async def story(self, message_id: str) -> Sequence[Item]:
        """A message and its deliveries, all that the ledger has of it; a consistent read."""
