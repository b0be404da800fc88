"""Counters of what became of recipients: by state, and by class of trouble where it was none to be sent."""

from __future__ import annotations

from empath.domain.classification import classify
from empath.domain.delivery_state import State
from empath.domain.records import DeliveryRecord
from empath.ports import Metrics


def count_outcomes(metrics: Metrics, record: DeliveryRecord, *, attempt: int | None = None) -> None:
    """`failed` and `failed_mailbox`, say, for each recipient that had an outcome (at `attempt`, if given)."""
    for known in record.recipients.values():
        if known.state is State.QUEUED or attempt not in (None, known.attempt):
            continue
        name = known.state.lower()
        metrics.count(name, domain=record.domain)
        if known.state is not State.SENT:
            metrics.count(f"{name}_{classify(known.reply, known.reason)}", domain=record.domain)
