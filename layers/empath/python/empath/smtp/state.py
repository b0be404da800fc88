"""The states of a server session, and the only way from one to another.

Rules, read off the tables below:
1. MAIL needs a greeting (EHLO or HELO); RCPT needs MAIL; DATA needs an accepted RCPT.
2. One transaction at a time: no MAIL inside a transaction (RFC 5321 §4.1.4).
3. EHLO, HELO and RSET end a transaction, and so does the end of its content, accepted or not.
4. DATA after only refused recipients is told so (RFC 5321 §3.3: 503 or 554).
5. A message comes by DATA or by BDAT, never by both; after the first BDAT there are no new recipients
   (RFC 3030 §2).
6. A refused BDAT ends its transaction. The chunks after it find the session SPOILT, up to the last one.
7. STARTTLS is possible between transactions only, and after it all begins anew (RFC 3207 §4.2).
8. Nothing leads out of CLOSED. A step that the table does not know is a fault of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType

from empath.domain.reply import Reply
from empath.smtp import replies


class State(Enum):
    # Members are looked up many times per message; Enum's own hash is a call into Python each time.
    __hash__ = object.__hash__

    CONNECTED = auto()
    GREETED = auto()
    MAIL = auto()  # a reverse-path, and no RCPT yet
    UNWANTED = auto()  # every RCPT so far was refused
    RECIPIENTS = auto()  # at least one RCPT was accepted
    CONTENT = auto()  # DATA, up to its final dot
    CHUNKS = auto()  # a message in chunks: at least one BDAT was accepted
    SPOILT = auto()  # a BDAT was refused, and the rest of its sequence may be on its way
    HANDSHAKE = auto()  # STARTTLS was accepted; nothing is read before `tls_started`
    CLOSED = auto()


class Step(Enum):
    __hash__ = object.__hash__  # as above

    GREET = auto()
    MAIL = auto()
    RECIPIENT = auto()
    RECIPIENT_REFUSED = auto()
    CONTENT = auto()
    CHUNKS = auto()
    SPOIL = auto()
    START_TLS = auto()
    TLS_STARTED = auto()
    RESET = auto()
    CLOSE = auto()


_IN_TRANSACTION = (State.MAIL, State.UNWANTED, State.RECIPIENTS, State.CHUNKS)
_COMMAND_STATES = (State.CONNECTED, State.GREETED, State.SPOILT, *_IN_TRANSACTION)

TRANSITIONS: Mapping[tuple[State, Step], State] = MappingProxyType(
    {
        **{(state, Step.GREET): State.GREETED for state in _COMMAND_STATES},
        **{(state, Step.CLOSE): State.CLOSED for state in State},
        (State.GREETED, Step.START_TLS): State.HANDSHAKE,
        (State.HANDSHAKE, Step.TLS_STARTED): State.CONNECTED,
        (State.GREETED, Step.MAIL): State.MAIL,
        (State.SPOILT, Step.MAIL): State.MAIL,
        (State.MAIL, Step.RECIPIENT): State.RECIPIENTS,
        (State.UNWANTED, Step.RECIPIENT): State.RECIPIENTS,
        (State.RECIPIENTS, Step.RECIPIENT): State.RECIPIENTS,
        (State.MAIL, Step.RECIPIENT_REFUSED): State.UNWANTED,
        (State.UNWANTED, Step.RECIPIENT_REFUSED): State.UNWANTED,
        (State.RECIPIENTS, Step.RECIPIENT_REFUSED): State.RECIPIENTS,
        (State.RECIPIENTS, Step.CONTENT): State.CONTENT,
        (State.RECIPIENTS, Step.CHUNKS): State.CHUNKS,
        (State.CONNECTED, Step.SPOIL): State.CONNECTED,
        **{(state, Step.SPOIL): State.SPOILT for state in (State.GREETED, State.SPOILT, *_IN_TRANSACTION)},
        (State.CONNECTED, Step.RESET): State.CONNECTED,
        **{(state, Step.RESET): State.GREETED for state in (State.GREETED, State.SPOILT, *_IN_TRANSACTION)},
        (State.CONTENT, Step.RESET): State.GREETED,
    }
)

OUT_OF_ORDER: Mapping[tuple[State, str], Reply] = MappingProxyType(
    {
        (State.CONNECTED, "MAIL"): replies.NEED_EHLO,
        (State.CONNECTED, "RCPT"): replies.NEED_EHLO,
        (State.CONNECTED, "DATA"): replies.NEED_EHLO,
        (State.CONNECTED, "BDAT"): replies.NEED_EHLO,
        (State.GREETED, "RCPT"): replies.NEED_MAIL,
        (State.GREETED, "DATA"): replies.NEED_MAIL,
        (State.GREETED, "BDAT"): replies.NEED_MAIL,
        (State.MAIL, "MAIL"): replies.NESTED_MAIL,
        (State.MAIL, "DATA"): replies.NEED_RCPT,
        (State.MAIL, "BDAT"): replies.NEED_RCPT,
        (State.UNWANTED, "MAIL"): replies.NESTED_MAIL,
        (State.UNWANTED, "DATA"): replies.NO_VALID_RECIPIENTS,
        (State.UNWANTED, "BDAT"): replies.NO_VALID_RECIPIENTS,
        (State.RECIPIENTS, "MAIL"): replies.NESTED_MAIL,
        (State.CHUNKS, "MAIL"): replies.NESTED_MAIL,
        (State.CHUNKS, "RCPT"): replies.IN_CHUNKS,
        (State.CHUNKS, "DATA"): replies.IN_CHUNKS,
        (State.SPOILT, "RCPT"): replies.NEED_MAIL,
        (State.SPOILT, "DATA"): replies.NEED_MAIL,
        (State.CONNECTED, "AUTH"): replies.NEED_EHLO,
        **{(state, "AUTH"): replies.IN_TRANSACTION for state in (State.SPOILT, *_IN_TRANSACTION)},
        (State.CONNECTED, "STARTTLS"): replies.NEED_EHLO,
        **{(state, "STARTTLS"): replies.IN_TRANSACTION for state in (State.SPOILT, *_IN_TRANSACTION)},
    }
)
"""The commands that are known and not possible in a state, with what the client hears."""
