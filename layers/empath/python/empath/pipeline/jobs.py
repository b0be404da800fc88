"""The jobs on the queues: versioned JSON, read strictly in their version and loosely in their fields.

A field that this version does not know is ignored, so that a newer minor version can add some; a
job of another major version is not guessed at.
"""

from __future__ import annotations

import json
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from empath.domain.address import MailboxField
from empath.domain.envelope import Metadata, Priority, Recipient, Source
from empath.domain.errors import UnreadableJob
from empath.domain.instant import InstantField
from empath.domain.records import DeliveryKey
from empath.domain.ulid import ULID_PATTERN

VERSION = 1


class Job(BaseModel):
    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1
    message_id: str = Field(pattern=ULID_PATTERN)

    def encode(self) -> str:
        return self.model_dump_json(exclude_none=True)


class AcceptedJob(Job):
    """Queue `accepted`: a message whose raw object is in the spool."""

    spool_key: str
    size: int
    received_at: InstantField
    reverse_path: MailboxField | None = None
    recipients: tuple[Recipient, ...] = Field(min_length=1)
    eight_bit: bool = False
    smtputf8: bool = False
    envid: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None
    priority: Priority = "normal"
    hold_until: InstantField | None = None
    deliver_by: InstantField | None = None
    source: Source = Source()
    tenant: str | None = None
    metadata: Metadata = {}
    prepend: str = ""
    trace_header: str | None = None


class DeliveryJob(Job):
    """Queues `delivery` and `retry`: one attempt at one delivery; all else is in the ledger."""

    delivery: str = Field(pattern="^delivery#[^#]+(#[0-9]+)?$")
    attempt: int = Field(ge=1)
    slot: InstantField | None = None
    """Its place in the line for a limited site's slots: when one is asked for."""
    waited: int = Field(default=0, ge=0)
    """Seconds that a gate without slots held it back for, when it did so last."""

    @property
    def domain(self) -> str:
        """The destination, out of `delivery#<domain>` or `delivery#<domain>#n`."""
        return self.delivery.split("#")[1]

    @property
    def key(self) -> DeliveryKey:
        return DeliveryKey(message_id=self.message_id, delivery=self.delivery)


class DsnJob(Job):
    """Queue `dsn`: one report about one event of a delivery."""

    delivery: str = Field(pattern="^delivery#[^#]+(#[0-9]+)?$")
    event: str = Field(min_length=1)

    @property
    def key(self) -> DeliveryKey:
        return DeliveryKey(message_id=self.message_id, delivery=self.delivery)


J = TypeVar("J", bound=Job)


def decode(kind: type[J], body: str) -> J:
    """Read a job; UnreadableJob says what is wrong with it, without quoting its content."""
    try:
        raw = json.loads(body)
    except ValueError as error:
        raise UnreadableJob(f"{kind.__name__}: not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise UnreadableJob(f"{kind.__name__}: not a JSON object")
    version = raw.get("v")
    if version != VERSION:
        raise UnreadableJob(f"{kind.__name__}: version {version!r:.20} where this release reads {VERSION}")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise UnreadableJob(f"{kind.__name__}: {faults}") from None
