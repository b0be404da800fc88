"""The session's state table, over the full product of states, steps and commands."""

from itertools import product

import pytest

from empath.smtp.state import OUT_OF_ORDER, TRANSITIONS, State, Step

COMMANDS_IN_ORDER = {
    "STARTTLS": {State.GREETED},
    "AUTH": {State.GREETED},
    "MAIL": {State.GREETED, State.SPOILT},
    "RCPT": {State.MAIL, State.UNWANTED, State.RECIPIENTS},
    "DATA": {State.RECIPIENTS},
    "BDAT": {State.RECIPIENTS, State.CHUNKS, State.SPOILT},
}
SPEAKING = [state for state in State if state not in {State.CONTENT, State.HANDSHAKE, State.CLOSED}]


@pytest.mark.parametrize(("verb", "state"), list(product(COMMANDS_IN_ORDER, SPEAKING)))
def test_a_command_is_either_in_order_or_has_a_reply_that_says_so(verb: str, state: State) -> None:
    assert (state in COMMANDS_IN_ORDER[verb]) is ((state, verb) not in OUT_OF_ORDER)


@pytest.mark.parametrize(
    ("state", "verb", "code"),
    [
        (state, verb, 554 if state is State.UNWANTED and verb in {"DATA", "BDAT"} else 503)
        for state, verb in OUT_OF_ORDER
    ],
)
def test_out_of_order_is_503_and_554_after_refused_recipients(state: State, verb: str, code: int) -> None:
    reply = OUT_OF_ORDER[state, verb]
    assert (reply.code, str(reply.enhanced)) == (code, "5.5.1")


def test_nothing_leads_out_of_closed() -> None:
    assert {after for (before, _), after in TRANSITIONS.items() if before is State.CLOSED} == {State.CLOSED}


def test_every_session_can_be_closed_and_every_transaction_reset() -> None:
    assert {before for before, step in TRANSITIONS if step is Step.CLOSE} == set(State)
    assert {before for before, step in TRANSITIONS if step is Step.RESET} == set(State) - {
        State.CLOSED,
        State.HANDSHAKE,
    }


def test_content_begins_only_after_an_accepted_recipient() -> None:
    for content in (Step.CONTENT, Step.CHUNKS):
        assert [before for before, step in TRANSITIONS if step is content] == [State.RECIPIENTS]
    into = {step for (_, step), after in TRANSITIONS.items() if after is State.RECIPIENTS}
    assert into == {Step.RECIPIENT, Step.RECIPIENT_REFUSED}
    assert TRANSITIONS[State.MAIL, Step.RECIPIENT_REFUSED] is State.UNWANTED
