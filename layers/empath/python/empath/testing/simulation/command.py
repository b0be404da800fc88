"""The command line of the simulator: run many seeds, or one of them again with its history.

Exit codes: 0 every invariant held, 1 one was broken, 2 the command line or a file makes no sense.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from empath.testing.simulation.batch import Outcome, outcomes_of
from empath.testing.simulation.history import instant
from empath.testing.simulation.plan import MAX_SEED, plan_of
from empath.testing.simulation.replay import UnknownRun, load, name_of, plan_named, save
from empath.testing.simulation.shrink import shrink
from empath.testing.simulation.world import Result, run

COMMAND = "python -m empath.testing.simulation"


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """The command line; where it writes can be given."""
    out = out or sys.stdout
    options = _parser().parse_args(arguments)
    try:
        if options.check is not None:
            return _check(options.check, out)
        if options.seed is not None:
            return _replay(options.seed, options.save, out)
        if options.seeds < 1 or not 0 <= options.first <= MAX_SEED - options.seeds:
            raise UnknownRun(f"--seeds and --first must name whole numbers from 0 to {MAX_SEED}")
        return _many(options.first, options.seeds, options.jobs, out)
    except UnknownRun as error:
        sys.stderr.write(f"simulation: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)"
    )
    parser.add_argument("--seed", help="run one seed, or a shrunk run, and print its history")
    parser.add_argument("--save", type=Path, metavar="FILE", help="with --seed: keep the history in a file")
    parser.add_argument("--check", type=Path, metavar="FILE", help="run a kept history again and compare")
    return parser


def _many(first: int, count: int, jobs: int, out: TextIO) -> int:
    began = time.monotonic()
    messages = faults = 0
    broken: list[Outcome] = []
    for done, outcome in enumerate(outcomes_of(range(first, first + count), jobs), start=1):
        messages += outcome.messages
        faults += outcome.faults
        if outcome.broken:
            broken.append(outcome)
            out.write(f"seed {outcome.seed}: {outcome.invariant}: {outcome.text}\n")
        if done % 1000 == 0 and done < count:
            out.write(f"{done} seeds, {len(broken)} broken\n")
            out.flush()
    took = time.monotonic() - began
    out.write(
        f"{count} seeds, {messages} messages, {faults} faults in {took:.0f} s"
        f" ({messages / took:.0f} messages a second): "
        f"{f'{len(broken)} seeds broke an invariant' if broken else 'every invariant held'}\n"
    )
    if broken:
        out.write("\n")
        _explain(run(plan_of(min(outcome.seed for outcome in broken))), out)
    return 1 if broken else 0


def _replay(name: str, path: Path | None, out: TextIO) -> int:
    result = run(plan_named(name), history=True)
    _print(result, out)
    if path is not None:
        save(result, path)
    return 1 if result.violations else 0


def _check(path: Path, out: TextIO) -> int:
    document = load(path)
    result = run(plan_named(str(document["run"])), history=True)
    same = result.history.digest() == document["hash"]
    out.write(f"run {document['run']}: {'the same history' if same else 'another history'}\n")
    return 0 if same else 1


def _explain(result: Result, out: TextIO) -> None:
    """Shrink a failing run, show what is left of it, and how to see it again."""
    plan = shrink(result)
    out.write(
        f"seed {plan.seed}, shrunk from {len(result.plan.messages)} messages and {len(result.faults)} faults"
        f" to {len(plan.messages)} and {len(plan.only_faults or ())}:\n\n"
    )
    _print(run(plan, history=True), out)
    out.write(f"\nreplay: {COMMAND} --seed {name_of(plan)}\n")


def _print(result: Result, out: TextIO) -> None:
    setup = result.plan.setup
    out.write(
        f"deliver {setup.deliver_timeout} s, other functions {setup.timeout} s, visibility"
        f" {setup.visibility_margin} s more, {setup.concurrency} workers per queue, batches of {setup.batch},"
        f" retry {dict(setup.policy['retry']) or 'as by default'},"
        f" faults until {instant(setup.faults_until)}\n"
    )
    for message in result.plan.messages:
        out.write(f"{message.label}: {message.sender or '<>'} to {', '.join(message.recipients)}\n")
    for number, fault in enumerate(result.faults):
        out.write(f"fault {number + 1 if result.plan.only_faults is not None else f'f{number}'}: {fault}\n")
    out.write("\n")
    for line in result.history.rendered():
        out.write(f"{line}\n")
    for violation in result.violations:
        out.write(f"\n{instant(violation.at)}  BROKEN: {violation.invariant}: {violation.text}\n")
    if not result.violations:
        out.write(f"\nevery invariant held; history {result.history.digest()[:16]}\n")
