"""What the ledger keeps: one record per message and one per delivery (a message's destination)."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from empath.domain.address import MailboxField
from empath.domain.classification import TroubleClass
from empath.domain.delivery_state import FINAL, Event, State, advance, summarise
from empath.domain.envelope import Metadata, Priority, Recipient, Source
from empath.domain.instant import InstantField
from empath.domain.reason import Reason
from empath.domain.reply import Reply

MAX_ATTEMPTS_KEPT = 20
MAX_RECIPIENTS_PER_DELIVERY = 100

ReportState = Literal["owed", "sent", "switched_off", "automatic", "over_limit"]
"""A report is owed until it is handed in, or decided against: by the tenant's policy, because the message was
made by a machine (RFC 3834), or because its recipient has had as many as policy allows."""


class DeliveryKey(BaseModel):
    """Names a delivery: `delivery` is its sort key, `delivery#<domain>` or `delivery#<domain>#n`."""

    model_config = ConfigDict(frozen=True)

    message_id: str
    delivery: str

    def __str__(self) -> str:
        return f"{self.message_id}/{self.delivery}"


class MessageRecord(BaseModel):
    """A message as a whole; final when the set of settled deliveries is complete."""

    model_config = ConfigDict(frozen=True)

    message_id: str
    reverse_path: MailboxField | None = None
    spool_key: str
    size: int
    """Octets of the raw object, without `prepend`."""
    received_at: InstantField
    eight_bit: bool = False
    smtputf8: bool = False
    envid: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None
    source: Source = Source()
    tenant: str | None = None
    priority: Priority = "normal"
    metadata: Metadata = {}
    prepend: str = ""
    """Header fields written in front of the content at delivery, CRLF line ends."""
    trace_header: str | None = None
    deliveries: int = Field(ge=1)
    settled: frozenset[str] = frozenset()
    forget_at: InstantField | None = None
    """Set once everything is settled: the store may drop the record then."""

    @property
    def is_settled(self) -> bool:
        return len(self.settled) >= self.deliveries


class RecipientRecord(BaseModel):
    """The state of one recipient, with the last thing that was heard about it."""

    model_config = ConfigDict(frozen=True)

    state: State = State.QUEUED
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None
    reply: Reply | None = None
    reason: Reason | None = None
    next_hop: str | None = None
    attempt: int = 0
    """The attempt that gave `reply`; 0 before the first."""
    passed_on: bool | None = None
    """True: a next hop took it and was told NOTIFY, so reports are its business (RFC 3461 §5.2.1)."""
    delivered: bool | None = None
    """True: sent to where its way ends (a mail store, an application), and not to another relay."""
    delay_reported: int | None = None
    """The attempt whose deferral the sender was told of; that happens once."""

    @classmethod
    def of(cls, recipient: Recipient) -> RecipientRecord:
        return cls(notify=recipient.notify, orcpt=recipient.orcpt)


class Attempt(BaseModel):
    """One claim of a delivery. Without `duration` it has no record: its worker died or still works."""

    model_config = ConfigDict(frozen=True)

    attempt: int
    started: InstantField
    owner: str
    duration: float | None = None
    """Seconds from claim to record."""
    next_hop: str | None = None
    reply: Reply | None = None
    reason: Reason | None = None
    trouble: TroubleClass | None = None
    """What kind of trouble `reply` and `reason` are, when it was not sent."""
    retry_after: int | None = None
    """Seconds that the next hop asked to wait, where policy listens to that."""
    tls: str | None = None
    dnssec: bool | None = None
    """True: the name server says that DNSSEC proved the next hop to be the destination's."""
    ambiguous: bool = False
    """The content may have been accepted although nobody said so."""
    commits_at: InstantField | None = None
    """When what could make the next hop take the message was about to go out, where policy wants to know
    (`on_ambiguous`). Without `duration` the attempt is in doubt then."""


class Lease(BaseModel):
    """Who works on a delivery now; `owner` is new for every claim, which makes it the fence."""

    model_config = ConfigDict(frozen=True)

    owner: str
    until: InstantField


OperationName = Literal["hold", "release", "retry", "delete"]


class Operation(BaseModel):
    """What an operator last did to a delivery. It is written with what it did, in one write, so the ledger's
    stream tells of one exactly when there was one."""

    model_config = ConfigDict(frozen=True)

    id: str
    action: OperationName
    operator: str
    """Whom AWS takes the operator for."""
    at: InstantField


class DeliveryRecord(BaseModel):
    """All recipients of a message at one destination."""

    model_config = ConfigDict(frozen=True)

    message_id: str
    delivery: str
    domain: str
    siblings: int = Field(ge=1)
    """How many deliveries the message has, so that the last of one needs no counting."""
    received_at: InstantField
    expires: InstantField
    """When waiting ends; the last attempt is made then."""
    priority: Priority = "normal"
    tenant: str | None = None
    recipients: dict[str, RecipientRecord] = Field(min_length=1)
    attempt: int = 1
    """The number of the next attempt to be recorded."""
    attempts: tuple[Attempt, ...] = ()
    next_attempt_at: InstantField | None = None
    job_at: InstantField | None = None
    """When the job for the next attempt becomes visible; None while nobody has queued one."""
    lease: Lease | None = None
    reason: Reason | None = None
    site: str | None = None
    waited: int | None = None
    """Seconds that a gate held the next attempt back for, when it did so last."""
    reports: dict[str, ReportState] = {}
    """Report events (`failed-`, `delayed-` or `relayed-<attempt>`) and what became of their reports."""
    operation: Operation | None = None
    """The last one, and the fence against writers who do not know of it."""
    forget_at: InstantField | None = None
    """Set with the last outcome: the store may drop the record then."""

    @property
    def key(self) -> DeliveryKey:
        return DeliveryKey(message_id=self.message_id, delivery=self.delivery)

    @property
    def status(self) -> State:
        return summarise(recipient.state for recipient in self.recipients.values())

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def owes_reports(self) -> bool:
        return "owed" in self.reports.values()

    @property
    def is_settled(self) -> bool:
        """Nothing more will ever happen to this delivery."""
        return self.is_final and not self.owes_reports

    def begin_attempt(self) -> DeliveryRecord:
        """This record as the holder of a fresh claim sees it.

        The claim's own Attempt is the last of `attempts`; earlier ones that nobody recorded are
        ambiguous. Deferred recipients are queued again (event WAKE).
        """
        earlier = tuple(
            attempt.model_copy(update={"ambiguous": True}) if attempt.duration is None else attempt
            for attempt in self.attempts[:-1]
        )
        recipients = {
            address: recipient.model_copy(update={"state": advance(recipient.state, Event.WAKE)})
            if recipient.state is State.DEFERRED
            else recipient
            for address, recipient in self.recipients.items()
        }
        return self.model_copy(update={"attempts": (*earlier, *self.attempts[-1:]), "recipients": recipients})

    def listed_at(self) -> datetime:
        """Where the `listing` index sorts this delivery: its next attempt, or its last change."""
        if self.next_attempt_at is not None:
            return self.next_attempt_at
        last = self.attempts[-1].started if self.attempts else self.received_at
        return max(last, self.operation.at) if self.operation is not None else last
