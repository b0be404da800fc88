"""The table of phases, over the full product of phases and steps."""

from __future__ import annotations

import itertools

from empath.smtp.client.state import TRANSITIONS, Phase, Step


def test_only_a_break_leads_out_of_over_and_nothing_else_out_of_broken() -> None:
    for phase, step in itertools.product((Phase.OVER, Phase.BROKEN), Step):
        assert TRANSITIONS.get((phase, step)) == (Phase.BROKEN if step is Step.BREAK else None)


def test_every_phase_can_break() -> None:
    assert all(TRANSITIONS[phase, Step.BREAK] is Phase.BROKEN for phase in Phase)


def test_only_completing_content_leads_to_where_a_loss_is_ambiguous() -> None:
    into_final = {key for key, phase in TRANSITIONS.items() if phase is Phase.FINAL}
    assert into_final == {(Phase.ENVELOPE, Step.COMPLETE), (Phase.CONTENT, Step.COMPLETE)}


def test_what_was_given_up_is_never_taken_up_again() -> None:
    after = {TRANSITIONS.get((Phase.GIVEN_UP, step)) for step in Step}
    assert after == {None, Phase.GIVEN_UP, Phase.OVER, Phase.BROKEN}
