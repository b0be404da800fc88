"""One run, named so that anybody can have it again: a seed, and what of it is left after shrinking.

A name is `17`, or `17:m3,m8:f2,f5`: messages by their numbers, faults by their places in the list of the
faults that the whole seed has. A history in a file carries its name, its format and its hash, so that it can
be checked against the code at hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from empath.testing.simulation.plan import FORMAT, Plan, plan_of
from empath.testing.simulation.world import Result, run

_NAME = re.compile(r"(?P<seed>[0-9]{1,19})(?::m(?P<messages>[0-9,m]*):f(?P<faults>[0-9,f]*))?")


class UnknownRun(ValueError):
    """A name or a file that is no run of this version; the text says why."""


def plan_named(name: str) -> Plan:
    """The plan of a run's name. Raises UnknownRun."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise UnknownRun(f"not a seed: {name[:60]!r} (expected a whole number, or SEED:m1,m2:f1,f2)")
    try:
        plan = plan_of(int(match["seed"]))
    except ValueError as error:
        raise UnknownRun(str(error)) from None
    if match["messages"] is None:
        return plan
    faults = run(plan).faults
    wanted, places = _numbers("m" + match["messages"], "m"), _numbers("f" + match["faults"], "f")
    unknown = [f"m{number}" for number in wanted - {message.number for message in plan.messages}]
    unknown += [f"f{place}" for place in places if place >= len(faults)]
    if unknown:
        raise UnknownRun(f"seed {plan.seed} has no {', '.join(sorted(unknown))}")
    return plan.shrunk(
        tuple(message for message in plan.messages if message.number in wanted),
        frozenset(faults[place].site for place in places),
    )


def _numbers(text: str, letter: str) -> set[int]:
    if text == letter:
        return set()
    parts = text.split(",")
    if not all(re.fullmatch(f"{letter}[0-9]+", part) for part in parts):
        raise UnknownRun(f"not a list of {letter}1,{letter}2,...: {text[:60]!r}")
    return {int(part[1:]) for part in parts}


def name_of(plan: Plan) -> str:
    """The inverse of `plan_named`."""
    if plan.only_faults is None:
        return str(plan.seed)
    places = {fault.site: place for place, fault in enumerate(run(plan_of(plan.seed)).faults)}
    messages = ",".join(f"m{message.number}" for message in plan.messages) or "m"
    faults = ",".join(f"f{places[site]}" for site in sorted(plan.only_faults, key=places.__getitem__)) or "f"
    return f"{plan.seed}:{messages}:{faults}"


def save(result: Result, path: Path) -> None:
    """Write a run's history to a file."""
    document = {
        "format": FORMAT,
        "run": name_of(result.plan),
        "hash": result.history.digest(),
        "violations": [f"{violation.invariant}: {violation.text}" for violation in result.violations],
        "history": list(result.history.rendered()),
    }
    path.write_text(json.dumps(document, indent=1))


def load(path: Path) -> Mapping[str, Any]:
    """Read a history from a file. Raises UnknownRun for what is none, or is one of another version."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnknownRun(f"{path}: cannot be read as a history: {error}") from None
    if not isinstance(document, dict) or not {"format", "run", "hash"} <= document.keys():
        raise UnknownRun(f"{path}: is not a history of the simulator")
    if document["format"] != FORMAT:
        raise UnknownRun(
            f"{path}: a history of format {document['format']!r}, and this version writes format {FORMAT};"
            " run it with the version that made it"
        )
    return document
