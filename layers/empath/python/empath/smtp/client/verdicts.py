"""What is said where a next hop's own words are missing or make no sense, and what its words come to."""

from __future__ import annotations

from empath.domain.errors import TransientRefusal
from empath.domain.outcome import Deferred, Failed, RecipientOutcome, outcome_of_reply
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.smtp.client.envelope import OutgoingMail, is_sayable
from empath.smtp.client.offer import Offer

NEEDS_SMTPUTF8 = Failed(
    Reply.of(553, "5.6.7", "The next hop does not take internationalised mail (SMTPUTF8)"),
    Reason.NEEDS_SMTPUTF8,
)
UNSAYABLE = Failed(
    Reply.of(553, "5.1.3", "Address has a character that SMTP cannot carry"), Reason.PROTOCOL_ERROR
)


def too_big(size: int, max_size: int) -> RecipientOutcome:
    """RFC 1870 §6.1: nothing is asked where the answer is known."""
    text = f"The message has {size} octets, and the next hop takes at most {max_size}"
    return Failed(Reply.of(552, "5.3.4", text), Reason.TOO_BIG)


def refused_here(mail: OutgoingMail, offer: Offer) -> dict[str, RecipientOutcome]:
    """The recipients that this next hop need not be asked about."""
    has_utf8 = "SMTPUTF8" in offer
    everybody: RecipientOutcome | None = None
    if offer.max_size is not None and mail.size > offer.max_size:
        everybody = too_big(mail.size, offer.max_size)
    elif not has_utf8 and (mail.smtputf8 or mail.reverse_ascii is None):
        everybody = NEEDS_SMTPUTF8
    elif not is_sayable(mail.reverse_path):
        everybody = UNSAYABLE
    refused: dict[str, RecipientOutcome] = {}
    for forward in mail.recipients:
        if everybody is not None:
            refused[forward.address] = everybody
        elif not is_sayable(forward.address):
            refused[forward.address] = UNSAYABLE
        elif forward.ascii is None and not has_utf8:
            refused[forward.address] = NEEDS_SMTPUTF8
    return refused


def outcome_of_negative(reply: Reply) -> RecipientOutcome:
    """The outcome of a reply that does not let the transaction go on, never Sent."""
    if reply.is_positive:
        return Deferred(out_of_place(reply), Reason.PROTOCOL_ERROR)
    return outcome_of_reply(reply)


def out_of_place(reply: Reply) -> Reply:
    return Reply.of(451, "4.5.0", f"The next hop sent a reply that does not belong here: {reply}")


def timed_out(step: str) -> TransientRefusal:
    """`step` is a noun phrase: "the greeting"."""
    reply = Reply.of(451, "4.4.2", f"Timed out while waiting for {step}")
    return TransientRefusal(reply, Reason.TIMEOUT)


def lost(step: str) -> TransientRefusal:
    reply = Reply.of(451, "4.4.2", f"Connection lost while waiting for {step}")
    return TransientRefusal(reply, Reason.CONNECTION_LOST)


def unreadable(step: str) -> TransientRefusal:
    reply = Reply.of(451, "4.5.0", f"The next hop sent something that is no SMTP reply instead of {step}")
    return TransientRefusal(reply, Reason.PROTOCOL_ERROR)
