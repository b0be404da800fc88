"""The phases of a client's mail transaction, and the only way from one to another.

Rules, read off the table below:
1. Content follows an accepted envelope, or goes with it in one flight.
2. From COMPLETE on, the next hop may take the message, whether its reply is heard or not: what is lost
   in FINAL is ambiguous. Nothing is ambiguous in any other phase.
3. GIVEN_UP: everybody has an outcome, and what is still to come is only waited for, so that the next
   transaction does not take it for its own.
4. Nothing leads out of OVER but a broken session, and nothing at all out of BROKEN.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType


class Phase(Enum):
    __hash__ = object.__hash__  # as smtp.state.State's

    ENVELOPE = auto()
    CONTENT = auto()
    FINAL = auto()  # all of the content is out
    GIVEN_UP = auto()
    OVER = auto()
    BROKEN = auto()  # over, and the session with it


class Step(Enum):
    __hash__ = object.__hash__

    CONTENT = auto()
    COMPLETE = auto()
    GIVE_UP = auto()
    END = auto()
    BREAK = auto()


class Stage(Enum):
    """What a reply answers, in the words of a report."""

    __hash__ = object.__hash__

    RSET = "the reply to RSET"
    MAIL = "the reply to MAIL"
    RCPT = "the reply to RCPT"
    DATA = "the reply to DATA"
    CHUNK = "the reply to BDAT"
    MESSAGE = "the reply to the message"


class Want(Enum):
    """What a transaction needs next; what it has to say goes out before."""

    CONTENT = auto()
    REPLY = auto()
    NOTHING = auto()


TRANSITIONS: Mapping[tuple[Phase, Step], Phase] = MappingProxyType(
    {
        (Phase.ENVELOPE, Step.CONTENT): Phase.CONTENT,
        (Phase.ENVELOPE, Step.COMPLETE): Phase.FINAL,
        (Phase.CONTENT, Step.COMPLETE): Phase.FINAL,
        **{
            (phase, Step.GIVE_UP): Phase.GIVEN_UP
            for phase in (Phase.ENVELOPE, Phase.CONTENT, Phase.FINAL, Phase.GIVEN_UP)
        },
        (Phase.FINAL, Step.END): Phase.OVER,
        (Phase.GIVEN_UP, Step.END): Phase.OVER,
        **{(phase, Step.BREAK): Phase.BROKEN for phase in Phase},
    }
)
