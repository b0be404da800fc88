"""The states of a server session, and the only way from one to another.

Rules, read off the tables below:
1. MAIL needs a greeting (EHLO or HELO); RCPT needs MAIL; DATA needs an accepted RCPT.
2. One transaction at a time: no MAIL inside a transaction (RFC 5321 §4.1.4).
3. EHLO, HELO and RSET end a transaction, and so does the end of its content, accepted or not.
4. DATA after only refused recipients is told so (RFC 5321 §3.3: 503 or 554).
5. Nothing leads out of CLOSED. A step that the table does not know is a fault of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType

from empath.domain.reply import Reply
from empath.smtp import replies


class State(Enum):
    CONNECTED = auto()
    GREETED = auto()
    MAIL = auto()  # a reverse-path, and no RCPT yet
    UNWANTED = auto()  # every RCPT so far was refused
    RECIPIENTS = auto()  # at least one RCPT was accepted
    CONTENT = auto()
    CLOSED = auto()


class Step(Enum):
    GREET = auto()
    MAIL = auto()
    RECIPIENT = auto()
    RECIPIENT_REFUSED = auto()
    CONTENT = auto()
    RESET = auto()
    CLOSE = auto()


_COMMAND_STATES = (State.CONNECTED, State.GREETED, State.MAIL, State.UNWANTED, State.RECIPIENTS)

TRANSITIONS: Mapping[tuple[State, Step], State] = MappingProxyType(
    {
        **{(state, Step.GREET): State.GREETED for state in _COMMAND_STATES},
        **{(state, Step.CLOSE): State.CLOSED for state in State},
        (State.GREETED, Step.MAIL): State.MAIL,
        (State.MAIL, Step.RECIPIENT): State.RECIPIENTS,
        (State.UNWANTED, Step.RECIPIENT): State.RECIPIENTS,
        (State.RECIPIENTS, Step.RECIPIENT): State.RECIPIENTS,
        (State.MAIL, Step.RECIPIENT_REFUSED): State.UNWANTED,
        (State.UNWANTED, Step.RECIPIENT_REFUSED): State.UNWANTED,
        (State.RECIPIENTS, Step.RECIPIENT_REFUSED): State.RECIPIENTS,
        (State.RECIPIENTS, Step.CONTENT): State.CONTENT,
        (State.CONNECTED, Step.RESET): State.CONNECTED,
        (State.GREETED, Step.RESET): State.GREETED,
        (State.MAIL, Step.RESET): State.GREETED,
        (State.UNWANTED, Step.RESET): State.GREETED,
        (State.RECIPIENTS, Step.RESET): State.GREETED,
        (State.CONTENT, Step.RESET): State.GREETED,
    }
)

OUT_OF_ORDER: Mapping[tuple[State, str], Reply] = MappingProxyType(
    {
        (State.CONNECTED, "MAIL"): replies.NEED_EHLO,
        (State.CONNECTED, "RCPT"): replies.NEED_EHLO,
        (State.CONNECTED, "DATA"): replies.NEED_EHLO,
        (State.GREETED, "RCPT"): replies.NEED_MAIL,
        (State.GREETED, "DATA"): replies.NEED_MAIL,
        (State.MAIL, "MAIL"): replies.NESTED_MAIL,
        (State.MAIL, "DATA"): replies.NEED_RCPT,
        (State.UNWANTED, "MAIL"): replies.NESTED_MAIL,
        (State.UNWANTED, "DATA"): replies.NO_VALID_RECIPIENTS,
        (State.RECIPIENTS, "MAIL"): replies.NESTED_MAIL,
    }
)
"""The commands that are known and not possible in a state, with what the client hears."""
