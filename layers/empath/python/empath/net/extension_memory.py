"""Which extensions of which hosts are left off, because they were offered and did not work.

In memory, one per process: to forget costs one transaction that is sent again without the extension.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum, auto

from empath.smtp.client import Breach

DAY = 86_400.0
MOST = 10_000
"""Verdicts kept; the oldest go first."""


class _Verdict(Enum):
    LEFT_OFF = auto()
    WORKS = auto()  # silence and lost connections are not blamed on it any more
    ACQUITTED = auto()  # without it the same happened


class ExtensionMemory:
    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` in seconds from any beginning."""
        self._now = now
        self._verdicts: OrderedDict[tuple[str, str], tuple[_Verdict, float]] = OrderedDict()

    def left_off(self, host: str, keywords: Iterable[str]) -> frozenset[str]:
        """Those of `keywords` that are not to be used with the host."""
        return frozenset(word for word in keywords if self._verdict(host, word) is _Verdict.LEFT_OFF)

    def blames(self, host: str, breach: Breach) -> bool:
        """Whether a breach is a reason to leave the extensions off."""
        innocent = {_Verdict.ACQUITTED} if breach.said else {_Verdict.ACQUITTED, _Verdict.WORKS}
        return not any(self._verdict(host, keyword) in innocent for keyword in breach.keywords)

    def leave_off(self, host: str, keywords: Iterable[str]) -> None:
        """For a day."""
        self._note(host, keywords, _Verdict.LEFT_OFF)

    def acquit(self, host: str, keywords: Iterable[str]) -> None:
        """They were not the reason; for a day nothing is blamed on them."""
        self._note(host, keywords, _Verdict.ACQUITTED)

    def prove(self, host: str, keywords: Iterable[str]) -> None:
        """They worked."""
        new = [word for word in keywords if self._verdict(host, word) is None]
        if new:
            self._note(host, new, _Verdict.WORKS)

    def _note(self, host: str, keywords: Iterable[str], verdict: _Verdict) -> None:
        for keyword in keywords:
            self._verdicts.pop((host, keyword), None)
            self._verdicts[host, keyword] = verdict, self._now() + DAY
        while len(self._verdicts) > MOST:
            self._verdicts.popitem(last=False)

    def _verdict(self, host: str, keyword: str) -> _Verdict | None:
        verdict, until = self._verdicts.get((host, keyword), (None, 0.0))
        return verdict if verdict is not None and self._now() < until else None
