"""Figures beside their goals, and what several parts count in the same way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.stack import Relay
from empath.domain.records import DeliveryRecord

RECEIVED = frozenset(
    {
        "attempt ended",
        "held back",
        "moved to the queue of slow sites",
        "late copy of a job",
        "delivery is leased by another worker",
        "job has to wait",
        "job failed",
        "job failed unexpectedly",
        "given back, for the time is over",
    }
)
"""Lines of the deliver function, of which each receipt of a job (for one recipient) leaves exactly one."""


@dataclass
class Report:
    lines: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def tell(self, what: str, figure: object) -> None:
        self.lines.append(f"{what:58} {figure}")

    def goal(self, what: str, figure: float, goal: float, *, show: Callable[[float], str] = str) -> None:
        """A figure that is not to be above its goal."""
        is_held = figure <= goal
        self.tell(what, f"{show(figure)} (goal: at most {show(goal)}{'' if is_held else ', MISSED'})")
        if not is_held:
            self.missed.append(what)

    def __str__(self) -> str:
        verdict = f"goals missed: {'; '.join(self.missed)}" if self.missed else "goals held"
        return "\n".join([*self.lines, verdict]) + "\n"


def most_in_any(times: Sequence[float], window: float) -> int:
    """The greatest number of them in any time of this length."""
    ordered, first, most = sorted(times), 0, 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


def receives(relay: Relay, message_ids: Collection[str]) -> Counter[str]:
    """How often the job of each message's delivery was received, as the functions' log tells."""
    wanted = frozenset(message_ids)
    counts: Counter[str] = Counter()
    for line in relay.log_lines():
        if line.get("message_id") in wanted and line.get("message") in RECEIVED:
            counts[str(line["message_id"])] += 1
    return counts


def words_of(relay: Relay, message_ids: Collection[str]) -> Counter[str]:
    """What became of these messages' jobs, each time that they were received."""
    wanted = frozenset(message_ids)
    return Counter(
        f"{line['message']} ({line['reason']})" if line.get("reason") else str(line["message"])
        for line in relay.log_lines()
        if line.get("message_id") in wanted and line.get("message") in RECEIVED
    )


def states(records: Iterable[DeliveryRecord]) -> str:
    """How many deliveries are in which state."""
    return ", ".join(
        f"{status} {number}" for status, number in Counter(one.status for one in records).items()
    )


def conserved(report: Report, recipients: Sequence[str], seen: Sequence[str]) -> None:
    """Nothing sent twice, and how much of it was sent."""
    copies = Counter(seen)
    report.tell("arrived, of those accepted", f"{len(copies)} of {len(recipients)}")
    report.goal("messages that arrived twice", sum(number > 1 for number in copies.values()), 0)
