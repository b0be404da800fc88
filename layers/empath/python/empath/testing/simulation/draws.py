"""Chance, by name: what is drawn depends on the seed and on the name of the draw, and on nothing else.

A stream of random numbers would hang every draw on all draws before it: leave one message out of a run, and
every fault afterwards falls somewhere else. Named draws stay where they are, which is what makes a failing
run shrink. BLAKE2 gives the same numbers on every Python version and machine.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

_SCALE = float(2**64)
_FOUR = struct.Struct(">4Q")


class Draws:
    """The draws of one seed."""

    def __init__(self, seed: int) -> None:
        self._keyed = hashlib.blake2b(key=seed.to_bytes(16, "big"), digest_size=32)

    def four(self, name: str) -> tuple[float, float, float, float]:
        """Four numbers in [0, 1)."""
        keyed = self._keyed.copy()
        keyed.update(name.encode())
        first, second, third, fourth = _FOUR.unpack(keyed.digest())
        return first / _SCALE, second / _SCALE, third / _SCALE, fourth / _SCALE

    def unit(self, name: str) -> float:
        """A number in [0, 1)."""
        return self.four(name)[0]

    def below(self, name: str, bound: int) -> int:
        """A whole number from 0 to `bound` - 1."""
        return int(self.unit(name) * bound)

    def between(self, name: str, low: float, high: float) -> float:
        return low + self.unit(name) * (high - low)

    def choice(self, name: str, options: Sequence[T]) -> T:
        return options[self.below(name, len(options))]

    def chance(self, name: str, probability: float) -> bool:
        return self.unit(name) < probability


class Shuffler(Random):
    """`shuffle` out of named draws, for a queue that wants a Random."""

    def __init__(self, draws: Draws, name: str) -> None:
        super().__init__(0)
        self._draws, self._name, self._count = draws, name, 0

    def shuffle(self, x: Any) -> None:
        if len(x) < 2:
            return
        self._count += 1
        state = int(self._draws.unit(f"{self._name} {self._count}") * _SCALE)
        for last in range(len(x) - 1, 0, -1):
            # A draw per place costs too much in a long queue: Knuth's linear congruence goes on from one.
            state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
            other = (state >> 32) * (last + 1) >> 32
            x[last], x[other] = x[other], x[last]
