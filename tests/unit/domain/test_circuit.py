"""The circuit: its whole table, one probe at a time, and what counts as a failure."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.circuit import (
    ACTIONS,
    CLOSED,
    Circuit,
    Happening,
    Phase,
    Probe,
    Signal,
    after,
)
from empath.domain.gate import HeldBack, put_off, signal_of
from empath.domain.gate_policy import CircuitPolicy
from empath.domain.outcome import Deferred, Failed, RecipientOutcome, Sent
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.testing.clock import START

POLICY = CircuitPolicy()
S = timedelta(seconds=1)

COUNTED = Circuit(failures=(START - 3 * S, START - 2 * S), cause="450 busy")
FULL = Circuit(failures=tuple(START - n * S for n in (4, 3, 2, 1)))
OPEN = Circuit(open_until=START + 10 * S, opened_at=START - 290 * S, openings=1)
DUE = Circuit(open_until=START - S, opened_at=START - 301 * S, openings=1)
PROBED = Circuit(
    open_until=START - S, opened_at=START - 301 * S, openings=1, probe=Probe("a", START + 60 * S)
)
LAPSED = Circuit(open_until=START - 90 * S, openings=2, probe=Probe("a", START))

PHASES = {Phase.CLOSED: COUNTED, Phase.OPEN: OPEN, Phase.DUE: DUE, Phase.PROBING: PROBED}


def happen(circuit: Circuit, signal: Signal, now: datetime = START, owner: str = "b") -> Circuit:
    return after(circuit, Happening(signal, now, owner=owner, until=now + 60 * S, cause="no"), POLICY)


def test_the_table_has_a_place_for_everything() -> None:
    assert set(ACTIONS) == set(product(Phase, Signal))


@pytest.mark.parametrize("phase", PHASES)
def test_the_examples_are_in_their_phases(phase: Phase) -> None:
    assert PHASES[phase].phase(START) is phase


@pytest.mark.parametrize(
    ("phase", "signal", "becomes"),
    [
        (Phase.CLOSED, Signal.FAILURE, Phase.CLOSED),
        (Phase.CLOSED, Signal.ASK, Phase.CLOSED),
        (Phase.CLOSED, Signal.ABANDON, Phase.CLOSED),
        (Phase.OPEN, Signal.FAILURE, Phase.OPEN),
        (Phase.OPEN, Signal.ASK, Phase.OPEN),
        (Phase.OPEN, Signal.ABANDON, Phase.OPEN),
        (Phase.DUE, Signal.FAILURE, Phase.OPEN),
        (Phase.DUE, Signal.ASK, Phase.PROBING),
        (Phase.DUE, Signal.ABANDON, Phase.DUE),
        (Phase.PROBING, Signal.FAILURE, Phase.OPEN),
        (Phase.PROBING, Signal.ASK, Phase.PROBING),
        (Phase.PROBING, Signal.ABANDON, Phase.PROBING),
        *[(phase, signal, Phase.CLOSED) for phase in Phase for signal in (Signal.SUCCESS, Signal.RESET)],
    ],
)
def test_every_signal_in_every_phase(phase: Phase, signal: Signal, becomes: Phase) -> None:
    assert happen(PHASES[phase], signal).phase(START) is becomes


@pytest.mark.parametrize("circuit", [COUNTED, OPEN, DUE, PROBED, LAPSED])
@pytest.mark.parametrize("signal", [Signal.SUCCESS, Signal.RESET])
def test_one_success_forgets_everything(circuit: Circuit, signal: Signal) -> None:
    assert happen(circuit, signal) == CLOSED


def test_five_failures_in_a_minute_open_it_for_five_minutes() -> None:
    circuit = happen(FULL, Signal.FAILURE)
    assert circuit == Circuit(open_until=START + 300 * S, opened_at=START, openings=1, cause="no")
    assert circuit.blocked_until(START) == START + 300 * S


def test_failures_that_are_a_minute_old_do_not_count() -> None:
    spread = Circuit(failures=tuple(START - n * S for n in (63, 62, 61, 60)))
    assert happen(spread, Signal.FAILURE).failures == (START,)


def test_a_probe_that_fails_opens_it_for_another_period() -> None:
    again = happen(PROBED, Signal.FAILURE)
    assert (again.open_until, again.opened_at) == (START + 300 * S, PROBED.opened_at)
    assert (again.openings, again.probe) == (2, None)


def test_what_was_under_way_when_it_opened_does_not_keep_it_open_longer() -> None:
    assert happen(OPEN, Signal.FAILURE) is OPEN


def test_only_its_owner_gives_a_probe_up() -> None:
    assert happen(PROBED, Signal.ABANDON, owner="b") == PROBED
    assert happen(PROBED, Signal.ABANDON, owner="a") == DUE


def test_a_probe_whose_worker_died_is_anybodys() -> None:
    assert LAPSED.phase(START) is Phase.DUE
    assert happen(LAPSED, Signal.ASK).probe == Probe("b", START + 60 * S)


def failed(circuit: Circuit, now: datetime, began: datetime | None = None, counts: int = 1) -> Circuit:
    return after(circuit, Happening(Signal.FAILURE, now, cause="no", began=began, counts=counts), POLICY)


def test_a_failure_counts_for_all_who_waited_and_none_alone_opens_a_circuit_that_takes_several() -> None:
    once = failed(CLOSED, START, counts=50)
    assert (once.phase(START), len(once.failures)) == (Phase.CLOSED, POLICY.failures - 1)
    assert failed(once, START + S).phase(START + S) is Phase.OPEN
    at_once = CircuitPolicy(failures=1)
    alone = after(CLOSED, Happening(Signal.FAILURE, START), at_once)
    assert alone.phase(START) is Phase.OPEN


def test_failures_of_attempts_that_follow_each_other_belong_together_however_long_each_takes() -> None:
    once = failed(CLOSED, START, counts=4)
    ended = START + 1000 * S
    assert failed(once, ended, began=START + 59 * S).phase(ended) is Phase.OPEN
    assert failed(once, ended, began=START + 60 * S).phase(ended) is Phase.CLOSED


def test_who_finds_a_probe_under_way_looks_again_before_its_lease_ends() -> None:
    long = Circuit(open_until=START - S, openings=1, probe=Probe("a", START + 790 * S))
    assert long.blocked_until(START) == START + 60 * S
    assert long.blocked_until(START + 780 * S) == START + 790 * S


steps = st.lists(st.tuples(st.sampled_from(Signal), st.integers(0, 200), st.sampled_from("abc")), max_size=60)


@given(steps)
def test_a_probe_is_one_at_a_time(taken: list[tuple[Signal, int, str]]) -> None:
    circuit, now = CLOSED, START
    for signal, seconds, owner in taken:
        now += seconds * S
        before = circuit
        circuit = happen(circuit, signal, now, owner)
        if circuit.probe is not None and circuit.probe != before.probe:
            # Whoever begins one found none alive, after the whole of an open period.
            assert before.probe is None or before.probe.until <= now
            assert before.open_until is not None
            assert before.open_until <= now


@given(steps)
def test_it_opens_only_after_as_many_failures_as_policy_says(taken: list[tuple[Signal, int, str]]) -> None:
    circuit, now = CLOSED, START
    failures: list[datetime] = []
    for signal, seconds, owner in taken:
        now += seconds * S
        before, circuit = circuit, happen(circuit, signal, now, owner)
        if signal in (Signal.SUCCESS, Signal.RESET):
            failures = []
        elif signal is Signal.FAILURE:
            failures.append(now)
        if before.is_closed and not circuit.is_closed:
            assert len([at for at in failures if now - at < 60 * S]) >= 5


def deferred(code: int, text: str) -> Deferred:
    return Deferred(Reply.heard(code, text))


SENT = Sent(Reply.of(250, "2.0.0", "Accepted"))
BUSY = deferred(451, "4.3.2 System not accepting messages")
REFUSED = Failed(Reply.of(550, "5.1.1", "Unknown"))


@pytest.mark.parametrize(
    ("outcomes", "signal"),
    [
        ([SENT], Signal.SUCCESS),
        ([BUSY, SENT], Signal.SUCCESS),
        ([REFUSED], Signal.SUCCESS),
        ([BUSY], Signal.FAILURE),
        ([deferred(451, "try again later")], Signal.FAILURE),
        ([deferred(421, "4.2.1 closing")], Signal.FAILURE),
        ([deferred(450, "4.2.0 Greylisted")], Signal.SUCCESS),
        ([deferred(451, "4.7.1 Greylisting in action")], Signal.SUCCESS),
        ([deferred(452, "4.2.2 mailbox full")], Signal.SUCCESS),
        ([Deferred(Reply.of(451, "4.4.1", "refused"), Reason.CONNECTION_FAILED)], Signal.FAILURE),
        ([Deferred(Reply.of(451, "4.4.2", "slow"), Reason.TIMEOUT)], Signal.FAILURE),
        ([Deferred(Reply.of(451, "4.3.0", "spool"), Reason.WORKER_FAILED)], None),
        ([Failed(Reply.of(550, "5.6.7", "SMTPUTF8"), Reason.NEEDS_SMTPUTF8)], None),
        ([], None),
    ],
)
def test_what_an_attempt_says_about_its_site(outcomes: list[RecipientOutcome], signal: Signal | None) -> None:
    heard = signal_of(outcomes)
    assert (heard and heard.signal) == signal


@given(st.integers(1, 10**5), st.integers(0, 10**5), st.floats(0, 1, exclude_max=True))
def test_who_is_held_back_again_waits_past_the_end_and_twice_as_far(
    blocked: int, waited: int, random: float
) -> None:
    held = HeldBack(Reason.CIRCUIT_OPEN, START + blocked * S)
    until = put_off(held, now=START, waited=waited * S, random=random, longest=timedelta(days=10))
    assert until >= held.until
    assert until - START >= 2 * waited * S
    assert until - START <= 1.5 * max(blocked, 2 * waited) * S


def test_doubling_stops_and_the_end_of_the_open_period_does_not_move() -> None:
    held = HeldBack(Reason.CIRCUIT_OPEN, START + 500 * S)
    assert put_off(held, now=START, waited=400 * S, random=0, longest=600 * S) == START + 600 * S
    assert put_off(held, now=START, waited=400 * S, random=0, longest=60 * S) == START + 500 * S


def test_a_slot_is_kept_to_the_moment() -> None:
    held = HeldBack(Reason.SLOT_RESERVED, START + 1234 * S)
    assert put_off(held, now=START, waited=900 * S, random=0.9, longest=86_400 * S) == held.until
