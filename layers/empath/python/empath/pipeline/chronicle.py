"""A batch of the ledger's stream, worked off: mail settled, addresses suppressed, applications told, and then
the audit trail written.

The first three at the same time, for none needs another: each is done whole or tried whole, whatever becomes
of the others. A batch in which something failed is given again, in halves, and what was done is done again:
settling and suppressing twice is nothing, an event that comes twice has the same id, and the audit trail,
which is read by people, is written when nothing else can fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from empath.domain.records import DeliveryRecord
from empath.domain.redaction import NOTHING_LEFT_OUT, Redaction
from empath.domain.suppression import Suppression
from empath.pipeline.audit_trail import AuditTrail
from empath.pipeline.batch import all_of
from empath.pipeline.changes import Record, StreamChange, audit_records, lifecycle_events, suppressions_of
from empath.pipeline.journal import Journal
from empath.pipeline.stage import Stage
from empath.ports import Audit, Clock, Control, Events, Ledger, Spool, Suppressions

SUPPRESSED_AT_ONCE = 20
"""Entries under way at a time; a batch may be one mailing to many who are gone."""


@dataclass(frozen=True, slots=True)
class Chronicle(Stage):
    spool: Spool
    ledger: Ledger
    clock: Clock
    audit: Audit | None = None
    """None: there is no audit trail."""
    events: Events | None = None
    """None: nobody is told."""
    event_types: tuple[str, ...] = ()
    redaction: Redaction = NOTHING_LEFT_OUT
    control: Control | None = None
    suppressions: Suppressions | None = None
    """None: no address is put on a list. Needs `control`."""

    async def take(self, changes: Sequence[StreamChange]) -> None:
        """Work a batch off. Raises a Trouble, and then the batch is to be given again."""
        await all_of((self._settle(changes), self._suppress(changes), self._tell(changes)))
        if self.audit is not None:
            records = [record for change in changes for record in audit_records(change, self.redaction)]
            await AuditTrail(self.audit, self.clock).append(records)

    async def _settle(self, changes: Sequence[StreamChange]) -> None:
        deliveries = [(_delivery(change.old), _delivery(change.new)) for change in changes]
        await Journal(self.spool, self.ledger, self.clock, self.control).note_all(deliveries)

    async def _tell(self, changes: Sequence[StreamChange]) -> None:
        if self.events is None:
            return
        told = [
            event
            for change in changes
            for event in lifecycle_events(change, self.event_types, self.redaction)
        ]
        if told:
            await self.events.publish(told)

    async def _suppress(self, changes: Sequence[StreamChange]) -> None:
        """Put addresses on the suppression list that a next hop says there are no mailboxes for."""
        suppressions, control = self.suppressions, self.control
        if suppressions is None or control is None:
            return
        turns = asyncio.Semaphore(SUPPRESSED_AT_ONCE)

        async def one(tenant: str | None, entry: Suppression) -> None:
            async with turns:
                policy = (await control.tenant_policy(tenant)).suppression
                if policy.enabled:
                    until = entry.since + timedelta(days=policy.days)
                    await suppressions.add(entry.model_copy(update={"until": until}))

        await all_of(one(*found) for change in changes for found in suppressions_of(change))


def _delivery(record: Record | None) -> DeliveryRecord | None:
    return record if isinstance(record, DeliveryRecord) else None
