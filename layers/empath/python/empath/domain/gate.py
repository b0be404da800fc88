"""What a gate answers, how far what it holds back has to wait, and what an attempt says about a site."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from empath.domain.circuit import Signal
from empath.domain.outcome import Deferred, Failed, RecipientOutcome, Sent
from empath.domain.reason import Reason

FREED_IN = timedelta(seconds=2)
"""When it is worth asking again, the first time, where others have all connections."""

JITTER = 0.5
"""Waits without a slot are stretched by up to this part of themselves, so that no herd comes back at once."""

_SITE_REASONS = frozenset(
    {
        Reason.CONNECTION_FAILED,
        Reason.CONNECTION_LOST,
        Reason.TIMEOUT,
        Reason.TLS_FAILED,
        Reason.AUTH_FAILED,  # a login that is tried again and again may be locked
        Reason.PROTOCOL_ERROR,
    }
)

_GREYLISTED = re.compile(r"gr[ae]y-?list", re.IGNORECASE)
_ADDRESS, _MAILBOX = 1, 2  # subjects of enhanced status codes (RFC 3463 §3)


FROZEN_FOR = timedelta(minutes=15)
"""Until what is frozen asks for the first time whether it still is. Whoever lifts a freeze wakes the rest."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Not now: at `until`, which is the message's own place in the line for slots, or else the earliest that
    is worth a question."""

    reason: Reason
    until: datetime
    cause: str = ""
    site: str | None = None

    @property
    def slot(self) -> datetime | None:
        """The place, if that is what it waits for."""
        return self.until if self.reason is Reason.SLOT_RESERVED else None


def frozen(now: datetime) -> HeldBack:
    """What holds mail back that policy has frozen."""
    return HeldBack(Reason.FROZEN, now + FROZEN_FOR)


def put_off(
    held: HeldBack, *, now: datetime, waited: timedelta, random: float, longest: timedelta
) -> datetime:
    """When what is held back asks again.

    At its place exactly; or past the gate's own time, stretched by chance (`random` in [0, 1)), and at least
    twice as far as it `waited` before. Doubling stops at `longest`.
    """
    if held.slot is not None:
        return held.slot
    wait = max(held.until - now, min(2 * waited, longest)) * (1 + JITTER * random)
    return now + max(wait, timedelta(seconds=1))


@dataclass(frozen=True, slots=True)
class Heard:
    """What an attempt says about its site, with the words of a failure."""

    signal: Signal
    cause: str = ""
    is_unreachable: bool = False
    """Nobody there could be talked to: another message would have met the same."""


def signal_of(outcomes: Iterable[RecipientOutcome]) -> Heard | None:
    """What an attempt that came to the site says about it; None when nothing.

    A site that takes mail, refuses it for good, or puts off a recipient (an address, a mailbox, greylisting)
    works. It fails when it cannot be talked to, or defers for reasons of its own.
    """
    failure: Heard | None = None
    for outcome in outcomes:
        match outcome:
            case Sent():
                return Heard(Signal.SUCCESS)
            case Failed(reason=Reason.NEXT_HOP_REPLY):
                return Heard(Signal.SUCCESS)
            case Deferred(reason=Reason.NEXT_HOP_REPLY) if _is_about_a_recipient(outcome):
                return Heard(Signal.SUCCESS)
            case Deferred(reason=reason) if reason in _SITE_REASONS or reason is Reason.NEXT_HOP_REPLY:
                failure = Heard(Signal.FAILURE, str(outcome.reply), is_unreachable=reason in _SITE_REASONS)
    return failure


def _is_about_a_recipient(outcome: Deferred) -> bool:
    # 421 ends the session, whatever its words (RFC 5321 §3.8).
    if outcome.reply.code == 421:
        return False
    return outcome.reply.status.subject in (_ADDRESS, _MAILBOX) or bool(
        _GREYLISTED.search(outcome.reply.text)
    )
