"""Planted bugs are found: a simulator that finds nothing proves nothing."""

from __future__ import annotations

import io

import pytest

from tests.simulation.planting import Mutant, hunt, mutants, planted

# A seed that catches each; `python -m tests.simulation.table` finds them anew when runs change.
KNOWN_SEEDS = {
    "accept_before_queue": 14,
    "accept_before_spool": 5,
    "acknowledge_before_record": 7,
    "ambiguity_is_forgotten": 12,
    "another_writers_block_is_ours": 5,
    "batch_by_its_first_line": 19,
    "claim_any_attempt": 2,
    "claim_without_lease_check": 4,
    "clock_looks_too_late": 12,
    "dead_letter_deleted_first": 1,
    "dead_letter_is_an_end": 41,
    "delay_above_limit": 1,
    "delayed_twice": 2,
    "delete_raw_object_unreported": 5,
    "deleted_without_its_report": 83,
    "drop_lost_claim": 864,
    "every_death_is_a_doubt": 21,
    "expiry_without_report": 4,
    "forget_the_fence": 47,
    "jobs_before_records": 39,
    "keep_raw_object": 15,
    "late_copy_completes_nothing": 14,
    "lease_too_short": 15,
    "lost_answer_is_no_doubt": 12,
    "lost_job_never_heals": 16,
    "machines_are_told": 5,
    "mark_is_not_seen": 301,
    "never_give_up": 1,
    "no_line_for_the_dead": 6,
    "operator_minds_no_lease": 17,
    "report_for_never": 62,
    "report_twice": 42,
    "resolve_without_jobs": 14,
    "spool_trouble_is_a_loss": 5,
    "suppressed_counts_as_sent": 47,
    "suppression_by_code_alone": 14,
    "suppression_feeds_itself": 3,
    "suppression_ignores_opt_out": 5,
    "suppression_minds_case": 3,
    "suppression_of_who_opted_out": 6,
    "told_of_one_deferral": 4,
    "unrecorded_claims_are_forgotten": 8,
    "whole_batch_is_done": 2,
}
QUICK_SEEDS = range(300)


def test_there_are_bugs_enough_and_each_says_what_is_wrong() -> None:
    planted_bugs = mutants()
    assert len(planted_bugs) >= 15
    assert all(mutant.about and mutant.patches for mutant in planted_bugs)


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_caught(mutant: Mutant) -> None:
    first = KNOWN_SEEDS.get(mutant.name, 0)
    caught = hunt(mutant, [first]) or hunt(mutant, QUICK_SEEDS)
    assert caught is not None, f"{mutant.name} survives: {mutant.about}"


def test_a_failing_seed_is_shrunk_and_told_with_the_command_that_replays_it() -> None:
    mutant = next(mutant for mutant in mutants() if mutant.name == "resolve_without_jobs")
    caught = hunt(mutant, [KNOWN_SEEDS[mutant.name]])
    assert caught is not None
    out = io.StringIO()
    with planted(mutant) as simulation:
        command = __import__(f"{simulation.__name__}.command", fromlist=["main"])
        assert command.main(["--first", str(caught.seed), "--seeds", "1", "--jobs", "1"], out) == 1
        told = out.getvalue()
        name = told.rsplit("--seed ", 1)[1].strip()
        replayed = simulation.run(command.plan_named(name))
    assert "shrunk from" in told
    assert f"BROKEN: {caught.invariant}" in told
    assert replayed.violations
    assert len(replayed.plan.messages) == 1
    assert len(replayed.faults) < 6
