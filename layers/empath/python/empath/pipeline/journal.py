"""journal: bookkeeping on the ledger's stream. When a message is settled, its raw object goes.

A delivery is settled when all its recipients are final and no report is owed; a message when all its
deliveries are. Stream records come again and again until they are worked off, so everything here is
idempotent.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from empath.domain.records import DeliveryRecord
from empath.pipeline.accept import spool_key_of
from empath.pipeline.conclude import RETENTION
from empath.ports import Clock, Ledger, Spool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Journal:
    spool: Spool
    ledger: Ledger
    clock: Clock

    async def note(self, old: DeliveryRecord | None, new: DeliveryRecord | None) -> None:
        """One change of a delivery, in the order of its changes. Raises SpoolTrouble or LedgerTrouble."""
        if new is None or not new.is_settled or (old is not None and old.is_settled):
            return
        forget_at = self.clock.now() + RETENTION
        if new.siblings == 1:
            # The only delivery: nothing to count, so the message is closed in the same write.
            await self.spool.delete(spool_key_of(new.message_id))
            await self.ledger.settle(new.key, forget_at=forget_at)
        else:
            message = await self.ledger.settle(new.key)
            if message is None or not message.is_settled:
                return
            await self.spool.delete(message.spool_key)
            await self.ledger.close(new.message_id, forget_at=forget_at)
        logger.info("message settled", extra={"message_id": new.message_id})
