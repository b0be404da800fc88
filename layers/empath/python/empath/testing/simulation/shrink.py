"""A failing run with as few messages and faults as still fail in the same way (delta debugging).

Zeller and Hildebrandt's ddmin, first over the faults that happened, then over the messages, then over the
faults again: a run that is left with one message hardly needs the faults of the others. Draws hang on names
and not on their order, so what is left of a run goes on as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from empath.testing.simulation.plan import Plan
from empath.testing.simulation.world import Result, run

T = TypeVar("T")

MAX_RUNS = 400
"""A bound on the effort; what is found by then is shown."""


@dataclass(slots=True)
class Shrinker:
    plan: Plan
    invariant: str
    runs: int = 0

    def fails(self, plan: Plan) -> bool:
        self.runs += 1
        return any(violation.invariant == self.invariant for violation in run(plan).violations)


def shrink(result: Result) -> Plan:
    """A smaller plan that breaks the same invariant as `result` did."""
    shrinker = Shrinker(result.plan, result.violations[0].invariant)
    messages = list(result.plan.messages)
    faults = [fault.site for fault in result.faults]

    def with_faults(kept: Sequence[str]) -> bool:
        return shrinker.fails(result.plan.shrunk(tuple(messages), frozenset(kept)))

    if not with_faults(faults):
        # Leaving out what never happened changes nothing; should it do so nevertheless, show the whole.
        return result.plan
    faults = _ddmin(faults, with_faults, shrinker)
    messages = _ddmin(
        messages,
        lambda kept: shrinker.fails(result.plan.shrunk(tuple(kept), frozenset(faults))),
        shrinker,
    )
    faults = _ddmin(faults, with_faults, shrinker)
    return result.plan.shrunk(tuple(messages), frozenset(faults))


def _ddmin(parts: list[T], fails: Callable[[list[T]], bool], shrinker: Shrinker) -> list[T]:
    """The smallest part of `parts` found that still fails; one less of them and it would not."""
    if not parts or fails([]):
        return []
    pieces = 2
    while len(parts) > 1 and shrinker.runs < MAX_RUNS:
        size = -(-len(parts) // pieces)
        for start in range(0, len(parts), size):
            rest = parts[:start] + parts[start + size :]
            if rest and fails(rest):
                parts, pieces = rest, max(pieces - 1, 2)
                break
        else:
            if size == 1:
                break
            pieces = min(pieces * 2, len(parts))
    return parts
