"""Who gets a site's slots: a line for each priority, and near its end the slots themselves.

What is to wait for long takes a place in a line, which is a time to come back and no right to anything. Only
when that time has come a slot is reserved, and no farther ahead than AHEAD. So however much waits, mail of a
higher priority finds a slot soon. The slots that it takes are what lower ones do not get when they come back;
those go to the end of their line. And a limit that is changed counts at once.

    ask         slots, as far as they are near; for the rest places
    first time  no slot while the line, or that of a higher priority, is longer than AHEAD: none is overtaken
    with place  slots from now on, whoever else is early or late; from the place on, if that has just passed

A place is behind what is in the lines of higher priorities, so nobody comes back in vain again and again.

Instants are microseconds, as in `domain.slots`, whose arithmetic and promise these slots have: never more
in a time than the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from empath.domain.envelope import Priority
from empath.domain.slots import Pace, from_micros, reserve, slots_from

ORDER: Sequence[Priority] = ("high", "normal", "bulk")
"""The highest first."""

AHEAD: Mapping[Priority, int] = {"high": 4_000_000, "normal": 3_000_000, "bulk": 2_500_000}
"""How far ahead slots are reserved, in microseconds. It is more than whoever comes back is early, and what it
is more is how far slots may be behind places before somebody has to stand in line again. The higher may
reserve where the lower may not, so they go first."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A slot, or else a place: when to come back and ask for one."""

    at: datetime
    is_slot: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody asks for `count` slots of one pace at `now`, or comes back for them with a `place`.

    A place in the past, by an interval at most, is where its slot is then, too.
    """

    priority: Priority
    count: int
    pace: Pace
    now: int
    place: int | None = None

    @property
    def arrival(self) -> int:
        """When they count as having come."""
        return self.now if self.place is None else min(self.place, self.now)

    @property
    def horizon(self) -> int:
        return self.now + AHEAD[self.priority]

    @property
    def lines(self) -> Sequence[Priority]:
        """Those that count for this priority: its own and the higher ones."""
        return ORDER[: ORDER.index(self.priority) + 1]


@dataclass(frozen=True, slots=True)
class Book:
    """What is known of a site's slots: `tat` as in `domain.slots`, and where each line ends."""

    tat: int | None = None
    ends: Mapping[Priority, int] = field(default_factory=dict)

    def room_for(self, ask: Ask) -> int:
        """How many of `ask` may have a slot now."""
        if ask.place is None and any(self.ends.get(line, 0) > ask.horizon for line in ask.lines):
            return 0
        return min(ask.count, max(0, (latest_tat(ask, 1) - self._first(ask)) // ask.pace.interval + 1))

    def next_place(self, ask: Ask) -> int:
        """The first place behind everybody who goes before."""
        first_slot = self._first(ask) - ask.pace.tolerance
        return max(ask.now, first_slot, *(self.ends.get(line, 0) for line in ask.lines))

    def _first(self, ask: Ask) -> int:
        return ask.arrival if self.tat is None else max(self.tat, ask.arrival)


def latest_tat(ask: Ask, count: int) -> int:
    """What `tat` may be at most for so many slots to be near enough."""
    return ask.horizon + ask.pace.tolerance - (count - 1) * ask.pace.interval


def slots_before(tat: int, ask: Ask, count: int) -> list[Turn]:
    """The slots that a reservation of so many gave, `tat` being what it is after that."""
    slots = slots_from(tat - count * ask.pace.interval, count, pace=ask.pace, now=ask.arrival)
    return [Turn(from_micros(slot), is_slot=True) for slot in slots]


def places_from(first: int, ask: Ask, count: int) -> list[Turn]:
    return [Turn(from_micros(first + number * ask.pace.interval), is_slot=False) for number in range(count)]


def take_turns(book: Book, ask: Ask) -> tuple[list[Turn], Book]:
    """The turns of all who ask, slots first, and the book after that."""
    count, tat, ends = book.room_for(ask), book.tat, book.ends
    turns: list[Turn] = []
    if count:
        _, tat = reserve(tat, count, pace=ask.pace, now=ask.arrival)
        turns = slots_before(tat, ask, count)
    if rest := ask.count - count:
        first = Book(tat, ends).next_place(ask)
        turns += places_from(first, ask, rest)
        ends = {**ends, ask.priority: first + rest * ask.pace.interval}
    return turns, Book(tat, ends)
