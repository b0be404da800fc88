"""dsn: a report that is owed becomes a message of its own, handed to accept like any other.

Its id follows from (message, delivery, event), so that a redelivered job hands in the same message
again, which spool and ledger take for what it is. Reports have the null reverse-path, and what has that
is never reported (RFC 5321 §6.1): the loop ends there.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from empath.domain.address import Mailbox
from empath.domain.delivery_state import State
from empath.domain.envelope import Envelope, Recipient, Source
from empath.domain.errors import SpoolObjectMissing
from empath.domain.records import DeliveryKey, DeliveryRecord, MessageRecord, RecipientRecord
from empath.domain.reply import EnhancedStatusCode
from empath.domain.ulid import RANDOM_BITS, encode_ulid
from empath.dsn.compose import compose_report
from empath.dsn.model import MAX_RETURNED_HEADERS, Action, Report, ReportedRecipient, header_section
from empath.pipeline.accept import Acceptance
from empath.pipeline.conclude import attempt_of_event
from empath.pipeline.jobs import DsnJob
from empath.pipeline.stage import Stage
from empath.ports import Clock, JobQueue, Ledger, Spool

DELIVERY_TIME_EXPIRED = EnhancedStatusCode(5, 4, 7)  # RFC 3463 §3.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reporting(Stage):
    spool: Spool
    queue: JobQueue
    ledger: Ledger
    clock: Clock
    hostname: str

    async def report(self, job: DsnJob) -> None:
        """Hand in the report that `job` names, then mark it sent. Raises a Trouble; come again then."""
        record = await self.ledger.delivery(job.key)
        if record is None or record.reports.get(job.event) != "owed":
            logger.info("report is not owed (any more)", extra={"event": job.event})
            if record is not None:
                await self._clear_away(record, job.event)
            return
        message = await self.ledger.message(job.message_id)
        if message is not None and message.reverse_path is not None:
            await self._hand_in(message, message.reverse_path, record, job.event)
        await self.ledger.mark_reported(job.key, job.event)

    async def _hand_in(
        self, message: MessageRecord, reverse_path: Mailbox, record: DeliveryRecord, event: str
    ) -> None:
        report_id = report_id_of(record.key, event, message.received_at)
        report = Report(
            report_id=report_id,
            reporting_mta=self.hostname,
            composed_at=self.clock.now(),
            reverse_path=reverse_path,
            recipients=tuple(reported_recipients(record, event)),
            arrival_date=message.received_at,
            envid=message.envid,
            original_headers=await self._original_headers(message),
        )
        content = compose_report(report)

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        await Acceptance(self.spool, self.queue).accept(
            message_id=report_id,
            received_at=report.composed_at,
            envelope=Envelope(
                reverse_path=None,
                recipients=(Recipient(mailbox=reverse_path),),
                smtputf8=not reverse_path.is_ascii,
                eight_bit=not content.isascii(),
            ),
            source=Source(report_of=f"{record.key}/{event}"),
            content=chunks(),
        )
        logger.info("report handed in", extra={"event": event, "report_id": report_id})

    async def _clear_away(self, record: DeliveryRecord, event: str) -> None:
        """Remove what an earlier try of a late job may have left behind.

        A worker that was slower than another one puts the raw object of a report back that is settled
        long since; should it die before it sends the job, nobody else would remove the object again.
        """
        report = await self.ledger.message(report_id_of(record.key, event, record.received_at))
        if report is not None and report.is_settled:
            await self.spool.delete(report.spool_key)

    async def _original_headers(self, message: MessageRecord) -> bytes:
        """The header section as it was sent on, trace header first."""
        prefix = message.prepend.encode()
        try:
            async for chunk in self.spool.read(message.spool_key):
                prefix += chunk
                if len(prefix) > MAX_RETURNED_HEADERS or b"\r\n\r\n" in prefix:
                    break
        except SpoolObjectMissing:
            logger.warning("the report goes out without the original's header", extra={"event": "headers"})
        return header_section(prefix)


def report_id_of(key: DeliveryKey, event: str, received_at: datetime) -> str:
    """The ULID of the report about `event`: the same whenever and by whomever it is made."""
    randomness = hashlib.sha256(f"{key}/{event}".encode()).digest()[: RANDOM_BITS // 8]
    return encode_ulid(int(received_at.timestamp() * 1000), int.from_bytes(randomness))


def reported_recipients(record: DeliveryRecord, event: str) -> list[ReportedRecipient]:
    """The recipients that `event` is about, as RFC 3464 describes them."""
    attempt = attempt_of_event(event)
    ended = next((entry for entry in record.attempts if entry.attempt == attempt), None)
    return [
        _reported(address, recipient, ended.started if ended else None)
        for address, recipient in record.recipients.items()
        if recipient.attempt == attempt and recipient.state in (State.FAILED, State.EXPIRED)
    ]


def _reported(address: str, recipient: RecipientRecord, last_attempt: datetime | None) -> ReportedRecipient:
    status = recipient.reply.status if recipient.reply else EnhancedStatusCode(5, 0, 0)
    return ReportedRecipient.model_validate(
        {
            "final_recipient": address,
            "action": Action.FAILED,
            "status": DELIVERY_TIME_EXPIRED if recipient.state is State.EXPIRED else status,
            "orcpt": recipient.orcpt,
            "remote_mta": _host_of(recipient.next_hop),
            "diagnostic": recipient.reply,
            "reason": recipient.reason,
            "last_attempt": last_attempt,
        }
    )


def _host_of(next_hop: str | None) -> str | None:
    """`mx.example.com` out of `mx.example.com[192.0.2.1]:25`."""
    return next_hop.partition("[")[0] or None if next_hop else None
