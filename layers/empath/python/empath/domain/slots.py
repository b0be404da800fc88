"""Slots for messages: the generic cell rate algorithm (ITU-T I.371, Annex A) on one number.

The number is the theoretical arrival time `tat` of the next message: where it would stand if everybody had
kept to the interval. All are microseconds since the epoch, so that no two machines round differently.

    reserve:  arrival = max(tat, now)
              slot    = max(now, arrival - (burst - 1) * interval)
              tat     = arrival + interval

In any time t there are at most t / interval + burst slots, whoever reserves, and however the clocks of those
who do differ: `tat` only grows, by an interval a slot, and no slot is later than its arrival or earlier than
its tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Pace:
    """`interval` in microseconds between two messages; `burst` of them may go at once after a pause."""

    interval: int
    burst: int = 1

    @property
    def tolerance(self) -> int:
        return (self.burst - 1) * self.interval


def to_micros(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def slots_from(arrival: int, count: int, *, pace: Pace, now: int) -> list[int]:
    """The slots of `count` messages that arrive in theory at `arrival` and each an interval later."""
    first = arrival - pace.tolerance
    return [max(now, first + number * pace.interval) for number in range(count)]


def reserve(tat: int | None, count: int, *, pace: Pace, now: int) -> tuple[list[int], int]:
    """`count` slots, and the `tat` after them; the same slots as `count` reservations one by one."""
    arrival = now if tat is None else max(tat, now)
    return slots_from(arrival, count, pace=pace, now=now), arrival + count * pace.interval


def is_good(slot: datetime, now: datetime, pace: Pace) -> bool:
    """Whether a slot may still be used: one that is late by more than an interval is gone.

    So lateness adds one message at most to what may go in any time; and a queue that stood still for an
    hour does not let an hour's messages go at once.
    """
    return now - slot <= timedelta(microseconds=pace.interval)
