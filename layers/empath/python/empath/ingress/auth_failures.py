"""Wrong passwords, counted by session and by client network: who guesses becomes slow, then unwelcome.

Local to a task on purpose: a guess costs its client seconds wherever it goes, and a store that is written at
every wrong password would be one more thing to attack. What is right is never counted against what was wrong
before, or somebody with one good password could guess at all others.

The same wrong password again is no guess: it tells who tries nothing new. It counts for its session, not for
its network, so that one device with an old password does not shut out the office that it stands in.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass

from empath.domain.network import IPAddress
from empath.ingress.client_network import client_network

MAX_IN_SESSION = 5
"""Wrong passwords of a session, the last of which ends it. OpenSSH's MaxAuthTries is 6."""

MAX_OF_NETWORK = 20
"""Wrong passwords of a network in a row, after which it is shut out until some are forgotten."""

WINDOW = 600.0
"""Seconds in which so many are forgotten, one by one: a network that goes on has a guess every 30 s."""

MAX_DELAY = 16.0
"""Seconds: 1, 2, 4, 8 and 16 are the most that a client waits for a 535, well below the 5 minutes that it
grants to a reply (RFC 5321 §4.5.3.2)."""

MAX_GUESSES = 8
"""Of a network that are known again, the latest."""

MAX_NETWORKS = 10_000
"""Remembered at a time, the latest; 8 MB at worst."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """What a wrong password costs: wait, then say 535, or 421 and close."""

    delay: float
    """Seconds."""
    ends_session: bool


@dataclass(slots=True)
class _Level:
    """Failures that are not forgotten yet, as of `at`; they drain like water, not by the window."""

    failures: float = 0.0
    at: float = 0.0
    guesses: tuple[bytes, ...] = ()
    """What was tried last, as far as it can be told from it."""


class AuthFailures:
    """`now` is monotonic seconds, the same clock for all calls."""

    def __init__(self, *, max_networks: int = MAX_NETWORKS) -> None:
        self._max_networks = max_networks
        self._levels: OrderedDict[str, _Level] = OrderedDict()
        self._key = os.urandom(16)

    def __len__(self) -> int:
        return len(self._levels)

    def is_shut_out(self, client: IPAddress | None, now: float) -> bool:
        """Whether a network has failed so often that its passwords are looked at no more for a while."""
        level = self._levels.get(_network(client))
        return level is not None and _drained(level, now) > MAX_OF_NETWORK - 1

    def failed(
        self, client: IPAddress | None, *, in_session: int, now: float, guess: str | None = None
    ) -> Penalty:
        """Count one more wrong password, the `in_session`th of its session; what it costs.

        `guess`: name and password in one text, of which a keyed hash of 8 octets is kept.
        """
        network = _network(client)
        level = self._levels.pop(network, None) or _Level()
        failures, guesses = _drained(level, now), level.guesses
        mark = None if guess is None else self._mark(guess)
        if mark not in guesses:
            failures += 1
        if mark is not None:
            guesses = (*(other for other in guesses if other != mark), mark)[-MAX_GUESSES:]
        self._levels[network] = _Level(failures, now, guesses)
        if len(self._levels) > self._max_networks:
            self._levels.popitem(last=False)
        is_last = in_session >= MAX_IN_SESSION or failures > MAX_OF_NETWORK - 1
        steps = max(in_session, round(failures)) - 1
        return Penalty(min(2.0 ** min(steps, 10), MAX_DELAY), is_last)

    def _mark(self, guess: str) -> bytes:
        text = guess.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=8, key=self._key).digest()


def _network(client: IPAddress | None) -> str:
    return "" if client is None else client_network(client)


def _drained(level: _Level, now: float) -> float:
    return max(0.0, level.failures - (now - level.at) * MAX_OF_NETWORK / WINDOW)
