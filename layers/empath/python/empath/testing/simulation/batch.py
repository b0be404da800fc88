"""Many seeds, on as many cores as there are."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass

from empath.testing.simulation.plan import plan_of
from empath.testing.simulation.world import run

SEEDS_PER_TASK = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is remembered of a run."""

    seed: int
    messages: int
    faults: int
    invariant: str | None = None
    text: str = ""

    @property
    def broken(self) -> bool:
        return self.invariant is not None


def outcome_of(seed: int) -> Outcome:
    """Run one seed, and remember little of it."""
    result = run(plan_of(seed))
    outcome = Outcome(seed, result.messages, len(result.faults))
    if result.violations:
        first = result.violations[0]
        outcome = Outcome(seed, result.messages, len(result.faults), first.invariant, first.text)
    del result
    if seed % SEEDS_PER_TASK == 0:
        gc.collect()
    return outcome


def outcomes_of(seeds: range, jobs: int) -> Iterator[Outcome]:
    """Run seeds on `jobs` processes; outcomes come in no order."""
    if jobs <= 1:
        yield from map(outcome_of, seeds)
        return
    # Spawned, not forked: a worker begins with nothing but its seeds.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(outcome_of, seeds, chunksize=SEEDS_PER_TASK)
