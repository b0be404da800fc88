"""Job queues: delivered at least once, in any order.

A job given to `send` is durable on return. What was received is hidden from other receivers for the
queue's visibility timeout and comes back unless it is deleted; how often it came is counted, and after
too many times the queue moves it to its dead-letter queue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

MAX_DELAY = 900
"""Seconds that a job can be delayed for at most (SQS DelaySeconds)."""

MAX_GROUP = 128
"""Characters of a group's name (SQS MessageGroupId)."""


_GROUP = re.compile(rf"[!-~]{{1,{MAX_GROUP}}}")


class QueueName(StrEnum):
    ACCEPTED = "accepted"
    DELIVERY = "delivery"
    DELIVERY_HIGH = "delivery-high"
    DELIVERY_BULK = "delivery-bulk"
    DELIVERY_SLOW = "delivery-slow"
    RETRY = "retry"
    DSN = "dsn"

    @property
    def is_for_deliveries(self) -> bool:
        """Whether the jobs on it are attempts at deliveries."""
        return self in _DELIVERIES

    @property
    def in_outputs(self) -> str:
        """Its name as the outputs of a stack begin with it: `DeliveryHigh`."""
        return "".join(word.capitalize() for word in self.value.split("-"))

    @property
    def variable(self) -> str:
        """The variable that tells a process its URL: `EMPATH_DELIVERY_HIGH_QUEUE_URL`."""
        return f"EMPATH_{self.name}_QUEUE_URL"


_DELIVERIES = frozenset(set(QueueName) - {QueueName.ACCEPTED, QueueName.DSN})


@dataclass(frozen=True, slots=True)
class OutgoingJob:
    body: str
    delay: int = 0
    """Whole seconds, 0 to MAX_DELAY."""
    trace_header: str | None = None
    group: str | None = None
    """Whose job it is: a group with more than its share of a queue keeps no other waiting (SQS fair queues).
    1 to MAX_GROUP characters of ASCII, no space or control among them."""


@dataclass(frozen=True, slots=True)
class ReceivedJob:
    body: str
    receipt: str
    """Names this receipt of the job, for `hide` and `delete`."""
    receive_count: int = 1
    message_id: str = ""
    """The queue's own id for the job (not the mail's message id)."""
    trace_header: str | None = None
    group: str | None = None


def is_group(name: str) -> bool:
    """Whether a group can have this name."""
    return _GROUP.fullmatch(name) is not None


class JobQueue(Protocol):
    async def send(self, queue: QueueName, jobs: Sequence[OutgoingJob]) -> None:
        """Enqueue every job. Raises QueueTrouble when any of them may not be stored (others may be)."""

    async def hide(self, queue: QueueName, receipt: str, seconds: int) -> None:
        """Keep a received job invisible for `seconds` from now (0: visible at once). Raises QueueTrouble."""

    async def receive_dead(self, queue: QueueName, limit: int = 10) -> list[ReceivedJob]:
        """Up to `limit` (at most 10) jobs from the dead-letter queue of `queue`. Raises QueueTrouble."""

    async def delete_dead(self, queue: QueueName, receipt: str) -> None:
        """Remove a job from the dead-letter queue of `queue`. Raises QueueTrouble."""
