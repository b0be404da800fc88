"""Addresses that mail is not tried for again: a next hop said for good that there is no such mailbox.

Conservative on purpose. A full or disabled mailbox may be back tomorrow, and a 5.1.1 in the words of a block
list says nothing about the mailbox; neither puts an address on the list.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from empath.domain.instant import InstantField
from empath.domain.reason import Reason
from empath.domain.reply import Reply

MAX_NOTE = 512
"""Characters kept of a next hop's words, or an operator's."""


class SuppressionPolicy(BaseModel):
    """Of a tenant: whether the list counts for its mail, and how long its failures stay on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    days: int = Field(default=14, ge=1, le=3650)


class Suppression(BaseModel):
    """One entry of the list."""

    model_config = ConfigDict(frozen=True)

    address: str
    """As `listed_as` has it."""
    since: InstantField
    until: InstantField | None = None
    """None: until somebody removes it."""
    origin: Literal["failure", "operator"]
    note: str = ""
    """The next hop's words, or the operator's."""
    message_id: str | None = None

    def is_in_force(self, now: datetime) -> bool:
        return self.until is None or now < self.until

    def reply(self) -> Reply:
        """What a recipient on the list fails with; it names the entry."""
        by = "an operator" if self.origin == "operator" else "a failure"
        words = f"<{self.address}> is on the suppression list since {self.since:%Y-%m-%d}, put there by {by}"
        return Reply.of(550, "5.1.1", f"{words}: {self.note}" if self.note else words)


def listed_as(address: str) -> str:
    """How the list writes an address. In lower case: no mailbox is missing in one case only."""
    return address.lower()


# X.1.1 bad destination mailbox address, X.1.6 mailbox has moved (RFC 3463 §3.2).
_STATUS = frozenset({(1, 1), (1, 6)})
# Enhanced codes that say so little that the words decide.
_VAGUE = frozenset({(0, 0), (1, 0)})
# Postfix ("User unknown in ... table"), Exim and qmail ("no such user", "no mailbox here by that name"),
# Yahoo ("doesn't have a ... account"), Gmail ("account that you tried to reach does not exist").
_WORDS = re.compile(
    r"user unknown|unknown user|no such (?:user|recipient|mailbox|account|person)|no mailbox here"
    r"|(?:user|mailbox|recipient|account|address)\b.{0,60}\b(?:not exist|not found|have an? \S+ account)",
    re.IGNORECASE,
)
_SOMETHING_ELSE = re.compile(
    r"spam|block|black ?list|polic|relay|reputation|listed|denied|quota|full|rate", re.IGNORECASE
)
# Postfix ("Sender address rejected: User unknown in ... table") and Exim ("Sender verify failed", with the
# words of a callout's server) speak so of the mailbox that the mail is from.
_THE_SENDER = re.compile(
    r"sender|originat|verif|call[ -]?(?:out|back)|return[ -]?path|reverse[ -]?path|mail from|envelope",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"]+@[^\s<>()\[\],;:\"]+")


def names_no_mailbox(address: str, reply: Reply | None, reason: Reason | None) -> bool:
    """Whether a failure is a next hop's word, for good, that there is no mailbox `address`.

    A reply to a message stands for all of its recipients: one that names others only is about those.
    """
    if reply is None or not reply.is_permanent or reason not in (None, Reason.NEXT_HOP_REPLY):
        return False
    if _SOMETHING_ELSE.search(reply.text) or _THE_SENDER.search(reply.text):
        return False
    named = {listed_as(found).strip("'.") for found in _ADDRESS.findall(reply.text)}
    if named and listed_as(address) not in named:
        return False
    if reply.enhanced is None:
        return reply.code in (550, 551, 553, 554) and _WORDS.search(reply.text) is not None
    place = (reply.enhanced.subject, reply.enhanced.detail)
    return place in _STATUS or (place in _VAGUE and _WORDS.search(reply.text) is not None)
