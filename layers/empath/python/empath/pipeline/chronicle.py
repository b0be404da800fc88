"""A batch of the ledger's stream, worked off: mail settled, applications told, the audit trail written.

In this order. What fails most easily comes first, for a batch that fails is given again, in halves, and what
was done is done again: settling twice is nothing, an event that comes twice has the same id, and the audit
trail, which is read by people, is written when nothing else can fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from empath.domain.records import DeliveryRecord
from empath.domain.redaction import NOTHING_LEFT_OUT, Redaction
from empath.pipeline.audit_trail import AuditTrail
from empath.pipeline.changes import Record, StreamChange, audit_records, lifecycle_events, suppressions_of
from empath.pipeline.journal import Journal
from empath.pipeline.stage import Stage
from empath.ports import Audit, Clock, Control, Events, Ledger, Spool, Suppressions


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
        deliveries = [(_delivery(change.old), _delivery(change.new)) for change in changes]
        await Journal(self.spool, self.ledger, self.clock).note_all(deliveries)
        await self._suppress(changes)
        if self.events is not None:
            told = [
                event
                for change in changes
                for event in lifecycle_events(change, self.event_types, self.redaction)
            ]
            if told:
                await self.events.publish(told)
        if self.audit is not None:
            records = [record for change in changes for record in audit_records(change, self.redaction)]
            await AuditTrail(self.audit, self.clock).append(records)

    async def _suppress(self, changes: Sequence[StreamChange]) -> None:
        """Put addresses on the suppression list that a next hop says there are no mailboxes for."""
        if self.suppressions is None or self.control is None:
            return
        for change in changes:
            for tenant, entry in suppressions_of(change):
                policy = (await self.control.tenant_policy(tenant)).suppression
                if policy.enabled:
                    until = entry.since + timedelta(days=policy.days)
                    await self.suppressions.add(entry.model_copy(update={"until": until}))


def _delivery(record: Record | None) -> DeliveryRecord | None:
    return record if isinstance(record, DeliveryRecord) else None
