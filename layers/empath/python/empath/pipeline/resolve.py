"""resolve: an accepted message becomes one delivery per destination, each with its job.

Records first, jobs after: a job always finds its record. Met again, the stage finds the records it
wrote and sends their jobs once more; the claim makes the extra ones harmless.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from empath.domain.address import Mailbox
from empath.domain.delivery_state import State
from empath.domain.envelope import Recipient
from empath.domain.errors import PermanentRefusal, TransientRefusal
from empath.domain.outcome import Deferred, Failed, RecipientOutcome, outcome_of_refusal
from empath.domain.reason import Reason
from empath.domain.records import (
    MAX_RECIPIENTS_PER_DELIVERY,
    DeliveryRecord,
    MessageRecord,
    RecipientRecord,
)
from empath.domain.reply import Reply
from empath.pipeline.batch import all_of
from empath.pipeline.conclude import AttemptResult, conclude, unclaimed_attempt, waiting_recipients
from empath.pipeline.counting import count_outcomes
from empath.pipeline.followups import report_jobs
from empath.pipeline.jobs import AcceptedJob, DeliveryJob
from empath.pipeline.lanes import group_of, queue_of_first
from empath.pipeline.routing import find_route
from empath.pipeline.stage import Stage
from empath.ports import (
    Clock,
    Control,
    IdSource,
    JobQueue,
    Ledger,
    Metrics,
    OutgoingJob,
    QueueName,
    Resolver,
    Spool,
    Suppressions,
)
from empath.smtp.domain_names import to_a_labels

MAX_LOOKUPS_AT_ONCE = 20

LOOKUPS_WITHIN = 10.0
"""Seconds for all lookups of a message. A destination without an answer by then goes on without one, as after
DNS trouble: otherwise a hundred domains with dead name servers would use up every invocation, and none of the
message's recipients would ever be tried."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resolution(Stage):
    spool: Spool
    queue: JobQueue
    ledger: Ledger
    control: Control
    resolver: Resolver
    clock: Clock
    ids: IdSource
    metrics: Metrics
    hostname: str
    suppressions: Suppressions | None = None
    """None: there is no list of addresses that mail is not tried for."""

    async def resolve(self, job: AcceptedJob) -> None:
        """Raises a Trouble when something does not answer; the job is to come again then."""
        fresh = await self._without_suppressed(job, await self._fresh_deliveries(job))
        await self._write(job, await self._routed_in_time(fresh, reportable=job.reverse_path is not None))

    async def expire(self, job: AcceptedJob) -> bool:
        """Give up a message that could not be resolved until its time was over.

        False while it still has time. Its recipients become EXPIRED, and the sender gets a report.
        """
        now = self.clock.now()
        fresh = await self._fresh_deliveries(job)
        if any(now < record.expires for record in fresh):
            return False
        outcome = Deferred(Reply.of(451, "4.3.0", "The message could not be processed"), Reason.WORKER_FAILED)
        expired = []
        for record in fresh:
            begun = unclaimed_attempt(record, now=now, owner="resolve")
            concluded = conclude(
                begun,
                AttemptResult.for_all(begun, outcome),
                now=now,
                policy=(await self.control.policy(record.domain)).retry,
                random=0.5,
                reportable=job.reverse_path is not None,
            )
            expired.append(concluded.record)
        await self._write(job, expired)
        return True

    async def _fresh_deliveries(self, job: AcceptedJob) -> list[DeliveryRecord]:
        groups = list(_by_destination(job.recipients))
        # At the same time: a thousand destinations are a thousand policies to be read.
        expiries = await all_of(self._expiry(job, domain) for _, domain, _ in groups)
        return [
            DeliveryRecord(
                message_id=job.message_id,
                delivery=name,
                domain=domain,
                siblings=len(groups),
                received_at=job.received_at,
                expires=expires,
                priority=job.priority,
                tenant=job.tenant,
                recipients={str(member.mailbox): RecipientRecord.of(member) for member in members},
            )
            for (name, domain, members), expires in zip(groups, expiries, strict=True)
        ]

    async def _without_suppressed(
        self, job: AcceptedJob, records: Sequence[DeliveryRecord]
    ) -> Sequence[DeliveryRecord]:
        """The records with every recipient failed that is on the suppression list."""
        if self.suppressions is None:
            return records
        if not (await self.control.tenant_policy(job.tenant)).suppression.enabled:
            return records
        now = self.clock.now()
        everybody = [address for record in records for address in record.recipients]
        found = await self.suppressions.find(everybody, now=now)
        if not found:
            return records
        return [
            await self._failed(
                record,
                {
                    address: Failed(found[address].reply(), Reason.SUPPRESSED)
                    for address in record.recipients
                    if address in found
                },
                reportable=job.reverse_path is not None,
            )
            for record in records
        ]

    async def _failed(
        self, record: DeliveryRecord, outcomes: Mapping[str, RecipientOutcome], *, reportable: bool
    ) -> DeliveryRecord:
        """The record after these outcomes, which no attempt at a next hop led to."""
        if not outcomes:
            return record
        now = self.clock.now()
        return conclude(
            unclaimed_attempt(record, now=now, owner="resolve"),
            AttemptResult(outcomes),
            now=now,
            policy=(await self.control.policy(record.domain)).retry,
            random=self.ids.random(),
            reportable=reportable,
        ).record

    async def _expiry(self, job: AcceptedJob, domain: str) -> datetime:
        policy = await self.control.policy(domain)
        by_policy = job.received_at + timedelta(seconds=policy.retry.expiry)
        return min(by_policy, job.deliver_by) if job.deliver_by else by_policy

    async def _routed_in_time(
        self, records: Sequence[DeliveryRecord], *, reportable: bool
    ) -> list[DeliveryRecord]:
        """What `_routed` makes of each, or the record as it was where that takes too long."""
        limit = asyncio.Semaphore(MAX_LOOKUPS_AT_ONCE)

        async def routed(record: DeliveryRecord) -> DeliveryRecord:
            async with limit:
                return await self._routed(record, reportable=reportable)

        lookups = [asyncio.create_task(routed(record)) for record in records]
        try:
            done, late = await asyncio.wait(lookups, timeout=LOOKUPS_WITHIN)
        finally:
            for lookup in lookups:
                lookup.cancel()
        if late:
            logger.warning("%d destinations could not be looked up in time", len(late))
        return [
            lookup.result() if lookup in done else record
            for lookup, record in zip(lookups, records, strict=True)
        ]

    async def _routed(self, record: DeliveryRecord, *, reportable: bool) -> DeliveryRecord:
        """The record with its site, or failed at once when DNS says that no mail can ever arrive."""
        policy = await self.control.policy(record.domain)
        if record.is_final or policy.route.kind != "mx":
            # What DNS says about the domain's mail is not asked then.
            return record
        try:
            route = await find_route(
                record.domain, resolver=self.resolver, ids=self.ids, own_name=self.hostname
            )
        except TransientRefusal:
            # The first attempt asks again, and waits by the rules of attempts if it must.
            return record
        except PermanentRefusal as refusal:
            refused = dict.fromkeys(waiting_recipients(record), outcome_of_refusal(refusal))
            return await self._failed(record, refused, reportable=reportable)
        return record.model_copy(update={"site": route.site})

    async def _write(self, job: AcceptedJob, deliveries: Sequence[DeliveryRecord]) -> None:
        message = MessageRecord(
            message_id=job.message_id,
            reverse_path=job.reverse_path,
            spool_key=job.spool_key,
            size=job.size,
            received_at=job.received_at,
            eight_bit=job.eight_bit,
            smtputf8=job.smtputf8,
            envid=job.envid,
            ret=job.ret,
            source=job.source,
            tenant=job.tenant,
            priority=job.priority,
            metadata=job.metadata,
            prepend=job.prepend,
            trace_header=job.trace_header,
            deliveries=len(deliveries),
        )
        stored = await self.ledger.create(message, deliveries)
        for record, intended in zip(stored, deliveries, strict=True):
            if record == intended:
                self._tell(record)
        await self.queue.send(
            queue_of_first(job.priority),
            [_first_attempt(record, job.trace_header) for record in stored if record.status is State.QUEUED],
        )
        await self.queue.send(
            QueueName.DSN,
            [outgoing for record in stored for outgoing in report_jobs(record, job.trace_header)],
        )
        if all(record.is_settled for record in stored):
            # A late copy of the job, or a report handed in twice: nobody will read the raw object again.
            await self.spool.delete(job.spool_key)

    def _tell(self, record: DeliveryRecord) -> None:
        count_outcomes(self.metrics, record)
        if not record.is_final:
            return
        known = next(iter(record.recipients.values()))
        logger.info(
            "delivery ended without an attempt",
            extra={
                "message_id": record.message_id,
                "delivery": record.delivery,
                "status": record.status,
                "reason": record.reason,
                "reply": str(known.reply),
            },
        )


def _by_destination(recipients: Sequence[Recipient]) -> Iterator[tuple[str, str, Sequence[Recipient]]]:
    """Sort key, domain and recipients of each delivery; the same for the same envelope, always."""
    groups: dict[str, dict[str, Recipient]] = {}
    for recipient in recipients:
        mailbox = recipient.mailbox
        groups.setdefault(_domain_of(mailbox), {}).setdefault(mailbox.local_part, recipient)
    for domain in sorted(groups):
        members = list(groups[domain].values())
        for start in range(0, len(members), MAX_RECIPIENTS_PER_DELIVERY):
            number = start // MAX_RECIPIENTS_PER_DELIVERY
            name = f"delivery#{domain}" if number == 0 else f"delivery#{domain}#{number + 1}"
            yield name, domain, members[start : start + MAX_RECIPIENTS_PER_DELIVERY]


def _domain_of(mailbox: Mailbox) -> str:
    """The recipient's domain, in A-labels: one destination, and one policy, however it is written."""
    try:
        return to_a_labels(mailbox.domain)
    except ValueError:
        return mailbox.destination  # no name at all, as whoever looks it up will say


def _first_attempt(record: DeliveryRecord, trace_header: str | None) -> OutgoingJob:
    job = DeliveryJob(message_id=record.message_id, delivery=record.delivery, attempt=record.attempt)
    return OutgoingJob(body=job.encode(), trace_header=trace_header, group=group_of(record.tenant))
