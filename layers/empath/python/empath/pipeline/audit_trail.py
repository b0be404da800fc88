"""Appending to the audit trail: each batch of lines once, in a chain that shows what was changed later.

    head -> next block under the key that the head says -> head moves on

Nobody is locked out and nothing is lost when a writer dies between any two steps. A key that is taken has
either our own earlier try, and then only the head is missing, or another writer's block, and then we move the
head for them and go on behind it. Lambda does not say which shard of the stream a batch is from, so a chain
is none of those: it is chosen by the batch's first message.

A batch that is given again whole is found by its name. Given again in other cuts (bisected after an error) a
line may come twice, with the same `id`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from empath.domain.audit import AuditRecord
from empath.domain.audit_chain import Block, Head, UnreadableBlock, shard_of
from empath.domain.errors import AuditTrouble
from empath.pipeline.stage import Stage
from empath.ports import Audit, Clock

TRIES = 30
"""Blocks of other writers that one append goes past."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditTrail(Stage):
    audit: Audit
    clock: Clock

    async def append(self, records: Sequence[AuditRecord]) -> None:
        """Add records to a chain, as one block; nothing when there are none, or they are there already.

        Raises AuditTrouble; appending the same records again is the remedy.
        """
        if not records:
            return
        batch = name_of(records)
        # Lines about no message, which share the beginning of their ids, are in one chain, in their order.
        shard = shard_of(records[0].message_id or records[0].id.partition("/")[0])
        lines = [record.line() for record in records]
        head = await self.audit.head(shard, fresh=False) or await self._begin(shard)
        for _ in range(TRIES):
            if batch in head.recent:
                return
            content = head.block(at=self.clock.now(), batch=batch, lines=lines).encode()
            is_ours = await self.audit.put_new(head.next_key, content)
            if not is_ours:
                content = await self._taken(head)
            moved = head.after(content)
            if await self.audit.advance(moved) or is_ours:
                head = moved
            else:
                # Far behind, perhaps: what is known of the chain may be as old as this process.
                head = await self.audit.head(shard) or moved
        raise AuditTrouble(f"shard {shard} grows faster than this writer can follow")

    async def _begin(self, shard: int) -> Head:
        head = Head(shard, 0, self.clock.now().date())
        if await self.audit.advance(head):
            return head
        known = await self.audit.head(shard)
        if known is None:
            raise AuditTrouble(f"shard {shard} was begun and is not there")
        return known

    async def _taken(self, head: Head) -> bytes:
        content = await self.audit.get(head.next_key)
        if content is None:
            raise AuditTrouble(f"{head.next_key} is taken and cannot be read")
        try:
            Block.decode(content)
        except UnreadableBlock as error:
            logger.error("an audit object is no block", extra={"key": head.next_key, "error": str(error)})
        return content


def name_of(records: Sequence[AuditRecord]) -> str:
    """The same for the same records, in the same order."""
    return hashlib.sha256("\n".join(record.id for record in records).encode()).hexdigest()[:16]
