"""What a trial says about a site, and for how long."""

from __future__ import annotations

from datetime import timedelta

import pytest

from empath.domain.trial import QUICK, SLOW_FOR, WORKS_FOR, Trial, TrialPhase, may_begin
from empath.testing.clock import START

MOMENT = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("trial", "phases"),
    [
        (
            Trial.begun("a", START),
            [
                (timedelta(0), TrialPhase.TRYING),
                (QUICK - MOMENT, TrialPhase.TRYING),
                # Nobody told of its end: it takes longer than that, or its worker died.
                (QUICK, TrialPhase.SLOW),
                (QUICK + SLOW_FOR - MOMENT, TrialPhase.SLOW),
                (QUICK + SLOW_FOR, TrialPhase.FREE),
            ],
        ),
        (Trial.worked(START), [(WORKS_FOR - MOMENT, TrialPhase.WORKS), (WORKS_FOR, TrialPhase.FREE)]),
        (Trial.slow(START), [(SLOW_FOR - MOMENT, TrialPhase.SLOW), (SLOW_FOR, TrialPhase.FREE)]),
    ],
)
def test_what_is_known_follows_from_the_time(
    trial: Trial, phases: list[tuple[timedelta, TrialPhase]]
) -> None:
    assert [(later, trial.phase(START + later)) for later, _ in phases] == phases


def test_one_tries_at_a_time_and_may_ask_twice() -> None:
    trial = Trial.begun("a", START)
    assert may_begin(None, "b", START)
    assert may_begin(trial, "a", START)
    assert not may_begin(trial, "b", START)
    assert not may_begin(trial, "b", START + QUICK)
    assert may_begin(trial, "b", START + QUICK + SLOW_FOR)
    assert not may_begin(Trial.worked(START), "b", START)
