"""journal: bookkeeping on the ledger's stream. When a message is settled, its raw object goes, or is kept
elsewhere for as long as its tenant's policy says.

A delivery is settled when all its recipients are final and no report is owed; a message when all its
deliveries are. Stream records come again and again until they are worked off, so everything here is
idempotent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from empath.domain.delivery_state import State
from empath.domain.records import DeliveryRecord
from empath.pipeline.accept import spool_key_of, trace_id_of
from empath.pipeline.batch import all_of
from empath.pipeline.conclude import RETENTION
from empath.pipeline.stage import Stage
from empath.ports import Clock, Control, Ledger, Spool

MESSAGES_AT_ONCE = 20

Change = tuple[DeliveryRecord | None, DeliveryRecord | None]
"""A delivery before and after."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Journal(Stage):
    spool: Spool
    ledger: Ledger
    clock: Clock
    control: Control | None = None
    """Whose content policies count; None: no content is kept."""

    async def note_all(self, changes: Sequence[Change]) -> None:
        """Note changes in their order, message by message, different messages at the same time.

        Raises the Trouble of a change that could not be noted, after all that could be were; the stream
        gives the batch again then (in halves, where it can), and noting again does no harm.
        """
        limit = asyncio.Semaphore(MESSAGES_AT_ONCE)

        async def one_message(history: Sequence[Change]) -> None:
            async with limit:
                for old, new in history:
                    await self.note(old, new)

        by_message: dict[str, list[Change]] = {}
        for old, new in changes:
            known = new or old
            if known is not None:
                by_message.setdefault(known.message_id, []).append((old, new))
        await all_of(map(one_message, by_message.values()))

    async def note(self, old: DeliveryRecord | None, new: DeliveryRecord | None) -> None:
        """One change of a delivery, in the order of its changes. Raises SpoolTrouble or LedgerTrouble."""
        if new is None or not new.is_settled or (old is not None and old.is_settled):
            return
        forget_at = self.clock.now() + RETENTION
        if new.siblings == 1:
            # The only delivery: nothing to count, so the message is closed in the same write.
            await self._let_go(new, spool_key_of(new.message_id))
            await self.ledger.settle(new.key, forget_at=forget_at)
        else:
            message = await self.ledger.settle(new.key)
            if message is None or not message.is_settled:
                return
            await self._let_go(new, message.spool_key)
            await self.ledger.close(new.message_id, forget_at=forget_at)
        logger.info(
            "message settled",
            extra={"message_id": new.message_id, "trace_id": trace_id_of(new.message_id)},
        )

    async def _let_go(self, last: DeliveryRecord, key: str) -> None:
        """Delete the raw object of a message, whose last delivery is settled; or keep it elsewhere first.

        Whoever dies between the two finds nothing to keep the next time, and it is kept.
        """
        if self.control is not None:
            policy = (await self.control.tenant_policy(last.tenant)).content
            if policy.keep == "all" or (policy.keep == "failed" and await self._is_failed(last)):
                await self.spool.keep(key, policy.days)
        await self.spool.delete(key)

    async def _is_failed(self, last: DeliveryRecord) -> bool:
        """Whether a recipient of the message did not get it."""
        deliveries = [last] if last.siblings == 1 else await self.ledger.deliveries(last.message_id)
        states = {recipient.state for record in deliveries for recipient in record.recipients.values()}
        return states != {State.SENT}
