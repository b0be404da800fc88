"""The simulator: the same seed is the same history, a batch of seeds holds, bad input is told clearly."""

from __future__ import annotations

import gc
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from empath.testing.simulation import plan_of, run
from empath.testing.simulation.command import main
from empath.testing.simulation.plan import FORMAT
from empath.testing.simulation.replay import name_of, plan_named

QUICK_SEEDS = 120
BATCHES = 6
LIVELY = 16
"""A seed with faults of many kinds, and little mail."""


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_invariant_holds_whatever_goes_wrong(batch: int) -> None:
    size = QUICK_SEEDS // BATCHES
    for seed in range(batch * size, (batch + 1) * size):
        result = run(plan_of(seed))
        assert not result.violations, f"seed {seed}: {result.violations[0]}; see it with --seed {seed}"
    gc.collect()


@pytest.mark.parametrize("seed", [3, LIVELY, 2**40])
def test_the_same_seed_is_the_same_history(seed: int) -> None:
    first, second = (run(plan_of(seed), history=True) for _ in range(2))
    assert first.history.lines
    assert first.history.digest() == second.history.digest()


def test_a_fresh_process_with_other_hashes_has_the_same_history() -> None:
    code = (
        "from empath.testing.simulation import plan_of, run;"
        f"print(run(plan_of({LIVELY}), history=True).history.digest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {run(plan_of(LIVELY), history=True).history.digest()}


def test_looking_does_not_change_what_happens() -> None:
    watched, unwatched = (run(plan_of(LIVELY), history=on) for on in (True, False))
    assert (watched.steps, watched.ended_at, watched.faults) == (
        unwatched.steps,
        unwatched.ended_at,
        unwatched.faults,
    )


def test_a_run_with_all_its_messages_and_faults_named_is_the_whole_run() -> None:
    whole = run(plan_of(3), history=True)
    sites = frozenset(fault.site for fault in whole.faults)
    named = run(whole.plan.shrunk(whole.plan.messages, sites), history=True)
    assert named.history.digest() == whole.history.digest()


def test_a_name_leads_to_its_run_and_back() -> None:
    for name in ("3", "3:m1:f", "3:m1,m2:f0,f1"):
        assert name_of(plan_named(name)) == name


def test_a_few_seeds_are_enough_for_every_kind_of_fault() -> None:
    kinds = {fault.kind for seed in (LIVELY, 26, 42) for fault in run(plan_of(seed)).faults}
    assert kinds >= {
        "crash before",
        "crash after",
        "pause before",
        "pause after",
        "trouble before",
        "trouble after",
        "partial",
        "slow",
        "duplicate",
        "lost",
        "unacknowledged",
        "lag",
        "replay",
        "missed",
    }


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("seventeen", "not a seed"),
        ("-1", "not a seed"),
        ("9" * 19, "a whole number from 0"),
        ("1:x", "not a seed"),
        ("1:m1", "not a seed"),
        ("1:m99:f", "seed 1 has no m99"),
        ("1:m1:f99999", "seed 1 has no f99999"),
        ("1:m1,1:f", "not a list of"),
    ],
)
def test_an_unknown_seed_is_a_usage_error(name: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--seed={name}"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (json.dumps({"format": FORMAT + 1, "run": "1", "hash": ""}), "of format 7"),
        (json.dumps({"hello": 1}), "is not a history"),
        ("[]", "is not a history"),
        ("{", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_history_of_another_version_is_a_usage_error(
    text: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history.json"
    if text is not None:
        path.write_text(text)
    assert main(["--check", str(path)]) == 2
    assert told in capsys.readouterr().err


def test_a_kept_history_is_recognised() -> None:
    out = io.StringIO()
    assert main(["--seed", "3:m1:f"], out) == 0
    assert "the client hears 250" in out.getvalue()


def test_a_kept_history_can_be_checked(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    out = io.StringIO()
    assert main(["--seed", "3", "--save", str(path)], out) == 0
    assert main(["--check", str(path)], out) == 0
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"hash": "another"}))
    assert main(["--check", str(path)], out) == 1


def test_many_seeds_are_run_and_counted() -> None:
    out = io.StringIO()
    assert main(["--seeds", "3", "--jobs", "1"], out) == 0
    assert "every invariant held" in out.getvalue()
