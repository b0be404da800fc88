"""The recorded events of every function: the doors read them as what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from empath.domain.delivery_state import State
from empath.door import delivery_changes, received_jobs
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


def test_the_stream_event_shows_deliveries_before_and_after_and_leaves_out_messages() -> None:
    changes = delivery_changes(event("journal"))
    (old, new), *others = changes
    assert old is not None
    assert new is not None
    assert (old.status, new.status) == (State.QUEUED, State.SENT)
    assert new.is_settled
    assert others == [(None, None)]


def test_there_is_an_event_for_every_function() -> None:
    functions = {path.parent.name for path in EVENTS.parent.glob("functions/*/handler.py")}
    assert {path.stem for path in EVENTS.glob("*.json")} == functions
