"""Report events: their names, and who they are about."""

from __future__ import annotations

import pytest

from empath.domain.delivery_state import State
from empath.domain.records import RecipientRecord
from empath.dsn.model import Action
from empath.pipeline.report_events import ReportEvent, owed_events


@pytest.mark.parametrize("action", Action)
def test_a_name_leads_to_its_event_and_back(action: Action) -> None:
    event = ReportEvent(action, 12)
    assert ReportEvent.parse(str(event)) == event
    assert str(event) == f"{action.value}-12"


@pytest.mark.parametrize(
    "name", ["", "failed", "failed-", "failed-x", "lost-1", "failed-1-2", "-1", "failed--1"]
)
def test_another_name_is_no_event(name: str) -> None:
    with pytest.raises(ValueError, match="unknown report event"):
        ReportEvent.parse(name)


def test_an_attempt_owes_an_event_for_each_thing_that_it_did() -> None:
    everything = ("SUCCESS", "FAILURE", "DELAY")
    recipients = {
        "lost@b.test": RecipientRecord(state=State.FAILED, attempt=3, notify=everything),
        "late@b.test": RecipientRecord(state=State.DEFERRED, attempt=3, delay_reported=3),
        "sent@b.test": RecipientRecord(state=State.SENT, attempt=3, notify=everything),
        "told@b.test": RecipientRecord(state=State.SENT, attempt=3, notify=everything, passed_on=True),
        "there@b.test": RecipientRecord(state=State.SENT, attempt=3, notify=everything, delivered=True),
        "before@b.test": RecipientRecord(state=State.FAILED, attempt=2),
    }
    assert owed_events(recipients, 3) == ("failed-3", "delayed-3", "delivered-3", "relayed-3")
    relayed = ReportEvent(Action.RELAYED, 3)
    assert [name for name, known in recipients.items() if relayed.is_about(known)] == ["sent@b.test"]


def test_who_was_late_stays_in_the_report_about_that_whatever_comes_after() -> None:
    late = ReportEvent(Action.DELAYED, 3)
    for state in State:
        assert late.is_about(RecipientRecord(state=state, attempt=5, delay_reported=3))
        assert not late.is_about(RecipientRecord(state=state, attempt=3, delay_reported=2))
