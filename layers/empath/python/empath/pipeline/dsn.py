"""dsn: a report that is owed becomes a message of its own, handed to accept like any other.

Its id follows from (message, delivery, event), so that a redelivered job hands in the same message
again, which spool and ledger take for what it is. Reports have the null reverse-path, and what has that
is never reported (RFC 5321 §6.1): the loop ends there.

What is owed and not sent after all is written down as such: the tenant's policy switches reports off, the
message was made by a machine and nobody asked for a report about it (RFC 3834), or the recipient of reports
has had as many in each hour as policy allows, for so long that the report has waited PATIENCE.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from empath.domain.address import Mailbox
from empath.domain.envelope import Envelope, Recipient, Source
from empath.domain.errors import SpoolObjectMissing, Trouble
from empath.domain.records import DeliveryKey, DeliveryRecord, MessageRecord, ReportState
from empath.domain.report_policy import ReportPolicy
from empath.domain.ulid import RANDOM_BITS, encode_ulid
from empath.dsn.automatic import Origin, origin_of
from empath.dsn.compose import compose_report
from empath.dsn.encoding import unencoded_form
from empath.dsn.model import MAX_RETURNED_HEADERS, Action, Report, header_section
from empath.pipeline.accept import Acceptance, spool_key_of
from empath.pipeline.jobs import DsnJob
from empath.pipeline.lanes import group_of
from empath.pipeline.report_events import ReportEvent
from empath.pipeline.reported import received_from, reported_recipients
from empath.pipeline.stage import Stage
from empath.ports import Clock, Control, JobQueue, Ledger, Metrics, OutgoingJob, QueueName, Quotas, Spool
from empath.ports.queue import MAX_DELAY
from empath.ports.quotas import window_start

LIMIT_WINDOW = timedelta(hours=1)
PATIENCE = timedelta(hours=12)
"""From the attempt that it is about: how long a failure's report waits for its turn under the limit. A report
of a delay does not wait: the next thing to be heard of that mail is better news, or worse."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Original:
    """What there is to return: the header section as it was sent on, trace header first; maybe all of it."""

    headers: bytes = b""
    message: bytes = b""


@dataclass(frozen=True, slots=True)
class Reporting(Stage):
    spool: Spool
    queue: JobQueue
    ledger: Ledger
    control: Control
    quotas: Quotas
    clock: Clock
    metrics: Metrics
    hostname: str

    async def report(self, job: DsnJob) -> None:
        """Hand in the report that `job` names, then mark it. Raises a Trouble; come again then."""
        record = await self.ledger.delivery(job.key)
        if record is None or record.reports.get(job.event) != "owed":
            logger.info("report is not owed (any more)", extra={"event": job.event})
            if record is not None:
                await self._clear_away(record, job.event)
            return
        message = await self.ledger.message(job.message_id)
        state: ReportState | None = "sent"
        if message is not None and message.reverse_path is not None:
            state = await self._report(message, message.reverse_path, record, job.event)
        if state is None:
            # Its successor first: death in between costs a second job, of which one finds the report sent.
            await self.queue.send(QueueName.DSN, [self._later(job, record)])
            return
        await self.ledger.mark_reported(job.key, job.event, state)

    async def _report(
        self, message: MessageRecord, reverse_path: Mailbox, record: DeliveryRecord, name: str
    ) -> ReportState | None:
        """Hand the report in, or decide against it; None: its time comes later."""
        policy = (await self.control.tenant_policy(message.tenant)).reports
        if not policy.enabled:
            return self._not_sent(name, "switched_off")
        event = ReportEvent.parse(name)
        original = await self._original(message, event, policy)
        unwanted = _is_unwanted(origin_of(original.headers), event.action)
        recipients = reported_recipients(record, event, only_asked_for=unwanted)
        if not recipients:
            return self._not_sent(name, "automatic")
        report_id = report_id_of(record.key, name, message.received_at)
        to = policy.send_to or reverse_path
        if not await self._is_within_limit(to, policy, report_id):
            if event.action is not Action.DELAYED and self.clock.now() < _happened_at(record) + PATIENCE:
                return None
            return self._not_sent(name, "over_limit")
        report = Report(
            report_id=report_id,
            reporting_mta=self.hostname,
            composed_at=self.clock.now(),
            reverse_path=to,
            recipients=tuple(recipients),
            arrival_date=message.received_at,
            received_from=received_from(message.source),
            envid=message.envid,
            original_headers=original.headers,
            original_message=original.message,
            international=message.smtputf8 or _has_utf8_address(reverse_path, record),
            template=policy.template,
        )
        try:
            await self._hand_in(report, Source(report_of=f"{record.key}/{name}"))
        except Trouble:
            # The job of a late copy is gone, so it is not tried again, and what it put back would stay.
            await self._clear_away(record, name)
            raise
        self.metrics.count("report_sent")
        logger.info("report handed in", extra={"event": name, "report_id": report_id})
        return "sent"

    def _later(self, job: DsnJob, record: DeliveryRecord) -> OutgoingJob:
        """The job in the next window, or on its way there."""
        now = self.clock.now()
        until = window_start(now, LIMIT_WINDOW) + LIMIT_WINDOW - now
        delay = min(math.ceil(until.total_seconds()), MAX_DELAY)
        logger.info("report waits for its turn", extra={"event": job.event, "delay": delay})
        return OutgoingJob(job.encode(), delay=delay, group=group_of(record.tenant))

    def _not_sent(self, name: str, state: ReportState) -> ReportState:
        self.metrics.count("report_suppressed")
        logger.info("report not sent", extra={"event": name, "report": state})
        return state

    async def _hand_in(self, report: Report, source: Source) -> None:
        """Store the report and send its job, which goes by what is stored.

        That may be what an earlier try composed: a delivery goes on, and policy changes, while a job waits.
        """
        composed = compose_report(report)

        async def chunks() -> AsyncIterator[bytes]:
            yield composed

        await self.spool.put(spool_key_of(report.report_id), chunks())
        content = await self._stored(report.report_id) or composed
        await Acceptance(self.spool, self.queue).enqueue(
            message_id=report.report_id,
            received_at=report.composed_at,
            envelope=Envelope(
                reverse_path=None,
                recipients=(Recipient(mailbox=report.reverse_path),),
                # A domain can be said in A-labels, and the report's own header section is ASCII.
                smtputf8=not report.reverse_path.local_part.isascii(),
                eight_bit=not content.isascii(),
            ),
            source=source,
            size=len(content),
        )

    async def _stored(self, report_id: str) -> bytes:
        """The report as the spool has it; empty when it has none (any more)."""
        try:
            return b"".join([chunk async for chunk in self.spool.read(spool_key_of(report_id))])
        except SpoolObjectMissing:
            return b""

    async def _is_within_limit(self, to: Mailbox, policy: ReportPolicy, report_id: str) -> bool:
        """Whether `to` may have another report in this hour.

        A try that comes again asks again, so what an earlier one began is let through; where a job is worked
        on twice at the same moment, a report that counts as over the limit may go out nevertheless.
        """
        if policy.max_per_hour is None:
            return True
        key = f"report#{to.local_part}@{to.destination}"
        limit, now = policy.max_per_hour, self.clock.now()
        if await self.quotas.take(key, 1, limit=limit, window=LIMIT_WINDOW, now=now):
            return True
        return await self.ledger.message(report_id) is not None or bool(await self._stored(report_id))

    async def _clear_away(self, record: DeliveryRecord, event: str) -> None:
        """Remove what an earlier try of a late job may have left behind.

        A worker that was slower than another one puts the raw object of a report back that is settled
        long since; should it die before it sends the job, nobody else would remove the object again.
        """
        report = await self.ledger.message(report_id_of(record.key, event, record.received_at))
        if report is not None and report.is_settled:
            await self.spool.delete(report.spool_key)

    async def _original(self, message: MessageRecord, event: ReportEvent, policy: ReportPolicy) -> _Original:
        """RET is about failures: of a message that is on its way nobody needs more than the header section
        (RFC 3461 §4.3)."""
        prefix = message.prepend.encode()
        is_whole = (
            message.ret == "FULL"
            and event.action is Action.FAILED
            and len(prefix) + message.size <= policy.full_message_up_to
        )
        pieces = [prefix]
        length = len(prefix)
        try:
            async for chunk in self.spool.read(message.spool_key):
                pieces.append(chunk)
                length += len(chunk)
                if not is_whole and (length > MAX_RETURNED_HEADERS or b"\r\n\r\n" in b"".join(pieces)):
                    break
        except SpoolObjectMissing:
            logger.warning("the report goes out without the original's header", extra={"event": str(event)})
            is_whole = False
        octets = b"".join(pieces)
        is_whole = is_whole and unencoded_form(octets) is not None
        return _Original(header_section(octets), octets if is_whole else b"")


def _happened_at(record: DeliveryRecord) -> datetime:
    """When what is to be reported happened, at the latest."""
    return record.attempts[-1].started if record.attempts else record.received_at


def _is_unwanted(origin: Origin, action: Action) -> bool:
    """Whether nobody wants to hear of this who did not ask for it.

    Two machines that answer each other must not; and a machine does not wait, so it is not told to.
    """
    return origin is Origin.REPLIED or (origin is Origin.GENERATED and action is Action.DELAYED)


def _has_utf8_address(reverse_path: Mailbox, record: DeliveryRecord) -> bool:
    """Whether the client must have declared SMTPUTF8, to name these addresses to us."""
    texts = (text for address, known in record.recipients.items() for text in (address, known.orcpt or ""))
    return not (reverse_path.is_ascii and all(text.isascii() for text in texts))


def report_id_of(key: DeliveryKey, event: str, received_at: datetime) -> str:
    """The ULID of the report about `event`: the same whenever and by whomever it is made."""
    randomness = hashlib.sha256(f"{key}/{event}".encode()).digest()[: RANDOM_BITS // 8]
    return encode_ulid(int(received_at.timestamp() * 1000), int.from_bytes(randomness))
