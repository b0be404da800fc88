"""Deterministic simulation of the whole relay: weeks of faults in virtual time, from one seed.

    result = run(plan_of(17), history=True)
    assert not result.violations

The stages of `empath.pipeline` run as they are, over the in-memory ports, on an event loop of the simulator's
own. Arrivals, interleavings, latencies and faults are all drawn from the seed; the same seed is the same
history, always. `python -m empath.testing.simulation --help` runs seeds, replays one, and shrinks what fails.
docs/SIMULATION.md tells how to read a history and how to add a fault, an invariant or a capability.
"""

from empath.testing.simulation.plan import Plan, plan_of
from empath.testing.simulation.world import Result, run

__all__ = ["Plan", "Result", "plan_of", "run"]
