"""The recorded events of every function: the doors read them as what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from empath.domain.delivery_state import State
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.door import received_jobs, stream_changes
from empath.pipeline.jobs import AcceptedJob, DeliveryJob, DsnJob, Job, decode

EVENTS = Path(__file__).parents[2] / "events"


def event(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return loaded


@pytest.mark.parametrize(
    ("name", "kind"), [("resolve", AcceptedJob), ("deliver", DeliveryJob), ("dsn", DsnJob)]
)
def test_every_job_of_a_queue_event_is_read(name: str, kind: type[Job]) -> None:
    received = received_jobs(event(name))
    assert received
    for job in received:
        assert decode(kind, job.body).message_id
        assert job.receipt
        assert job.message_id
        assert job.receive_count == 1


def test_a_trace_header_comes_with_its_job() -> None:
    (received,) = received_jobs(event("resolve"))
    assert received.trace_header == decode(AcceptedJob, received.body).trace_header


def test_the_stream_event_shows_deliveries_and_messages_before_and_after() -> None:
    first, second = stream_changes(event("journal"))
    assert isinstance(first.old, DeliveryRecord)
    assert isinstance(first.new, DeliveryRecord)
    assert (first.old.status, first.new.status) == (State.QUEUED, State.SENT)
    assert first.new.is_settled
    assert isinstance(second.new, MessageRecord)
    assert first.id != second.id
    assert first.at.year == 2026


def test_there_is_an_event_for_every_function() -> None:
    functions = {path.parent.name for path in EVENTS.parent.glob("functions/*/handler.py")}
    assert {path.stem for path in EVENTS.glob("*.json")} == functions
