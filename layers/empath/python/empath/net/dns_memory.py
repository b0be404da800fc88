"""What one process remembers of DNS, for how long, and how much of it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from empath.ports import DnsAnswer
from empath.ports.dns_cache import RecordType

MIN_TTL = 5.0  # seconds: one batch of jobs for a domain asks once, even with TTL 0
MAX_TTL = 3600.0  # seconds: a wrong record is gone within the hour
MAX_NEGATIVE_TTL = 300.0  # seconds: a domain that was just made can be written to soon (RFC 2308 §5)

TROUBLE_FOR = timedelta(seconds=30)
"""How long a question that came to nothing is not asked again: RFC 9520 §3.2 wants 1 s to 5 min, and RFC 8767
§5 names 30 s. A batch of jobs for a domain whose servers are dead would else wait for them job by job."""

MAX_STALE = {"MX": timedelta(hours=24), "A": timedelta(hours=1), "AAAA": timedelta(hours=1)}
"""How long after its time an answer serves while there is no other (RFC 8767 §5 advises one to three days).
Addresses less: they are given to strangers, names of mail exchangers hardly ever are."""


@dataclass(frozen=True, slots=True)
class Known:
    """The last answer to a question, and whether asking once more came to nothing."""

    answer: DnsAnswer | None = None
    trouble: str | None = None
    troubled_at: datetime | None = None

    def is_fresh(self, now: datetime) -> bool:
        return self.answer is not None and now < self.answer.fresh_until

    def is_in_trouble(self, now: datetime) -> bool:
        return self.troubled_at is not None and now < self.troubled_at + TROUBLE_FOR


NOTHING = Known()


class AnswerMemory:
    """Answers by question; the one that was used the longest ago goes first when there are too many."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[tuple[str, RecordType], Known] = OrderedDict()

    def __getitem__(self, question: tuple[str, RecordType]) -> Known:
        known = self._known.get(question)
        if known is None:
            return NOTHING
        self._known.move_to_end(question)
        return known

    def __setitem__(self, question: tuple[str, RecordType], known: Known) -> None:
        self._known[question] = known
        self._known.move_to_end(question)
        if len(self._known) > self._size:
            self._known.popitem(last=False)


def lifetime_of(ttl: float, *, negative: bool) -> timedelta:
    """How long an answer with a TTL in seconds is believed."""
    longest = MAX_NEGATIVE_TTL if negative else MAX_TTL
    return timedelta(seconds=min(max(ttl, MIN_TTL), longest))


def forget_at(answer: DnsAnswer) -> datetime:
    """Until when an answer may be of use. Stale ones that say no are of none: mail would fail by them."""
    if answer.is_negative:
        return answer.fresh_until
    return answer.fresh_until + MAX_STALE[answer.rdtype]
