"""The history of a run: what every worker did, in virtual time, as a reader wants it.

Off, it costs nothing; a failing seed is simply run once more with it on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from empath.testing.simulation.loop import DAY, HOUR, MINUTE, SECOND

_ID = re.compile(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b")


class History:
    """Lines of (time, actor, text); ids of messages are shown as the labels that the run gives them."""

    def __init__(self, *, on: bool = True) -> None:
        self.on = on
        self.lines: list[tuple[int, str, str]] = []
        self.labels: dict[str, str] = {}

    def note(self, now: int, actor: str, text: str) -> None:
        if self.on:
            self.lines.append((now, actor, text))

    def digest(self) -> str:
        """One hash for the whole history: two runs are the same when it is."""
        hashed = hashlib.sha256()
        for line in self.lines:
            hashed.update(repr(line).encode())
        return hashed.hexdigest()

    def rendered(self) -> Iterable[str]:
        for now, actor, text in self.lines:
            yield f"{instant(now)}  {actor:<14} {self.readable(text)}"

    def readable(self, text: str) -> str:
        return _ID.sub(lambda found: self.labels.get(found.group(), found.group()), text)


def instant(now: int) -> str:
    """`2d 03:04:05.678901`, counted from the beginning of the run."""
    days, rest = divmod(now, DAY)
    hours, rest = divmod(rest, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    seconds, fraction = divmod(rest, SECOND)
    return f"{days}d {hours:02}:{minutes:02}:{seconds:02}.{fraction:06}"
