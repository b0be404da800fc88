"""Which queue a job goes to, and in whose name: what keeps bulk mail out of the way of a password reset.

    priority   first attempts   further attempts
    high       delivery-high    delivery-high
    normal     delivery         retry
    bulk       delivery-bulk    delivery-bulk

What a gate holds back waits on the queue where it was, but mail for a dead site on `retry`. What goes to a
site that takes long over each message (pipeline.slow_sites) moves to `delivery-slow`, unless it is `high`:
there it would wait behind bulk mail for the same site.

Workers of one queue are never busy with another's jobs. Within a queue jobs have a group, their tenant, and
SQS serves a quiet group before one that is noisy. All priorities share `accepted`; there the group says the
priority too.
"""

from __future__ import annotations

import hashlib
import re

from empath.domain.envelope import Priority
from empath.domain.reason import Reason
from empath.ports.queue import MAX_GROUP, QueueName

NOBODY = "-"
"""The group of mail without a tenant. SQS takes each job without any group for a group of its own, which none
of its rules could ever call noisy."""

_FIRST: dict[Priority, QueueName] = {
    "high": QueueName.DELIVERY_HIGH,
    "normal": QueueName.DELIVERY,
    "bulk": QueueName.DELIVERY_BULK,
}
_FURTHER: dict[Priority, QueueName] = _FIRST | {"normal": QueueName.RETRY}

# Of ASCII what SQS takes; and without the slash and the tilde, which are ours.
_FOREIGN = re.compile(r"[^!-.0-}]")
_DIGEST = 16
_KEPT = MAX_GROUP - len("/normal") - len("~") - _DIGEST


def queue_of_first(priority: Priority) -> QueueName:
    return _FIRST[priority]


def is_left_for_slow_sites(queue: QueueName) -> bool:
    """Whether jobs of slow sites move from this queue to their own."""
    return queue not in (QueueName.DELIVERY_HIGH, QueueName.DELIVERY_SLOW)


def queue_of_put_off(queue: QueueName, reason: Reason) -> QueueName:
    """Where a job waits that a gate held back on `queue`.

    There, unless its site is let alone: ten thousand jobs for a dead site come back at about the same time,
    and first attempts at other sites are not to wait for that.
    """
    if reason is Reason.CIRCUIT_OPEN and queue is QueueName.DELIVERY:
        return QueueName.RETRY
    return queue


def queue_of_further(priority: Priority) -> QueueName:
    return _FURTHER[priority]


def group_of(tenant: str | None) -> str:
    """The group of a tenant's jobs; another one for another tenant, whatever characters their names have."""
    if tenant is None:
        return NOBODY
    kept = _FOREIGN.sub("_", tenant)[:_KEPT]
    if kept == tenant and tenant not in ("", NOBODY):
        return tenant
    # Not a secret: it tells apart what came to look the same.
    return f"{kept}~{hashlib.sha256(tenant.encode(errors='surrogatepass')).hexdigest()[:_DIGEST]}"


def group_of_accepted(tenant: str | None, priority: Priority) -> str:
    """The group of a job on `accepted`."""
    return f"{group_of(tenant)}/{priority}"
