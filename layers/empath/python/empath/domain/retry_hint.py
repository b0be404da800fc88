"""The wait that a temporary reply asks for in its own words: "Greylisted, please try again in 300 seconds".

No standard has a place for it (RFC 5321 §4.5.4.1 leaves the time to the client, RFC 6647 §2 describes
greylisting without one), so this reads prose. Forms met in the field, and where:

    Greylisted for 300 seconds (see ...)                    postgrey (--greylist-text, its %s)
    Sender address rejected: Greylisted for 58 sec.         a provider's help page on its greylisting
    Greylisted for 5 minutes. Try again later.              policy servers of Postfix
    Greylisting in action, please come back in 00:05:00     milter-greylist (its %R), Courier's filter
    Greylisted, please try again in 5 minutes               mail servers with greylisting of their own
    Greylisting in effect, please retry in 300 seconds      the same
    try again in 15 seconds                                 a provider's rate limit (gophish issue 521)
    retry=00:05:00, Retry-After: 300                        scripts in front of mail servers

A number is a wait only right behind words that say so. "Timed out after 300 seconds", "100 messages in 60
minutes" and "in the last 10 minutes" ask for nothing, nor does "in a few minutes".
"""

from __future__ import annotations

import math
import re

MAX_LOOKED_AT = 2048
"""Characters of a text; of a reply fewer are kept."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_GAP = r"[\s,;:=(\[\"'~<-]{0,3}"
_LEAD = (
    r"(?<![a-z])(?:retry(?:ing)?|try|again|come[ ]back|back[ ]off|resend|reconnect|wait(?:ing)?"
    r"|gr[ae]y-?list(?:ed|ing)?|deferred|delayed|blocked|throttled|suspended|locked)(?![a-z])"
)
_LINK = (
    r"(?:in|after|for|again|until|at[ ]least|about|approximately|approx\.?|another|the[ ]next|later|up[ ]to)"
    r"(?![a-z])"
)
# hh:mm:ss; or a number (or "a", "an", "one") of a unit, or several: 4m30s, 1 hour and 5 minutes.
_CLOCK = r"(?P<hours>\d{1,3}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)(?![\d:])"
_NUMBER = r"(?:\d{1,6}(?:\.\d{1,6})?|(?:an?|one)(?=[ -]))[ -]?(?:(?:more|full)[ ])?"
_UNIT = r"(?:(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])|[hms](?=\d))"
_PARTS = rf"(?P<parts>{_NUMBER}{_UNIT}(?:(?:,[ ]|[ ]and[ ]|[ ])?{_NUMBER}{_UNIT}){{0,3}})"
# A number without a unit is one of seconds where it stands like the value of HTTP's field.
_BARE = r"retry[ _-]?after[ ]?[:=][ ]?(?P<bare>\d{1,6})(?![\d:.]|[ ]?[a-z])"

_HINT = re.compile(
    rf"{_LEAD}{_GAP}(?:{_LINK}{_GAP}){{0,3}}(?:{_CLOCK}|{_PARTS})|{_BARE}", re.IGNORECASE | re.ASCII
)
_ONE_PART = re.compile(rf"({_NUMBER})({_UNIT})", re.IGNORECASE | re.ASCII)
_DIGITS = re.compile(r"[0-9.]+")


def wait_asked_for(text: str) -> int | None:
    """Whole seconds, rounded up, of the first wait that a reply's text asks for; None when it asks for none.

    Takes any text, a stranger's: it raises nothing and looks at no more than MAX_LOOKED_AT characters.
    """
    found = _HINT.search(" ".join(text[:MAX_LOOKED_AT].split()))
    if found is None:
        return None
    if found["bare"] is not None:
        return int(found["bare"]) or None
    if found["parts"] is None:
        return (int(found["hours"]) * 60 + int(found["minutes"])) * 60 + int(found["seconds"]) or None
    parts = _ONE_PART.findall(found["parts"])
    return math.ceil(sum(_amount(number) * _SECONDS[unit[0].lower()] for number, unit in parts)) or None


def _amount(number: str) -> float:
    digits = _DIGITS.match(number)
    return float(digits[0]) if digits else 1
