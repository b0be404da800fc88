"""Which offered extension a next hop breaks on, judged by where it broke and what it said."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from empath.smtp.client.state import Stage

_NOT_IN_A_GROUP = frozenset({500, 502, 503})
"""How servers refuse commands only for coming in one flight; Postfix's reject_unauth_pipelining says 503."""

_NO_SUCH_COMMAND = frozenset({500, 501, 502, 503, 504})

_NO_SUCH_PARAMETER = frozenset({501, 504, 555})


@dataclass(frozen=True, slots=True)
class Breach:
    """Extensions that were offered and did not work."""

    keywords: frozenset[str]
    said: bool
    """By a reply, not by silence or a lost connection, which have other causes too."""


def breach_at(stage: Stage, code: int | None, used: Set[str], *, was_complete: bool) -> Breach | None:
    """What is to blame for `code` (None: for silence or nonsense) in place of the reply that was due.

    `used` are the extensions that the transaction relies on; with `was_complete` all of the content had
    gone out too, and so the flight may have had a BDAT in it.
    """
    keywords: set[str] = set()
    if stage in (Stage.CHUNK, Stage.MESSAGE):
        if code is None or code in _NO_SUCH_COMMAND:
            keywords.add("CHUNKING")
    elif code is None or code in _NOT_IN_A_GROUP:
        keywords |= {"PIPELINING", "CHUNKING"} if was_complete else {"PIPELINING"}
    if code in _NO_SUCH_PARAMETER and stage in (Stage.MAIL, Stage.RCPT):
        keywords.add("DSN")
    keywords &= used
    return Breach(frozenset(keywords), said=code is not None) if keywords else None
