"""The part of a report that a person reads: what happened, why, and what to do.

Plain text with LF line ends; `compose` brings it into its transport form. Strangers' words (replies,
addresses) appear here only after `printable`, and never at the start of a line but where an operator's
template puts them there.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import format_datetime
from string import Template

from empath.domain.reason import Reason
from empath.dsn.encoding import DIRECTION, UNPRINTABLE, decoded_xtext, original_address
from empath.dsn.model import Action, Report, ReportedRecipient

_WIDTH = 72

_URGENCY = (Action.FAILED, Action.DELAYED, Action.RELAYED, Action.EXPANDED, Action.DELIVERED)

_SUBJECTS = {
    Action.FAILED: "Your message could not be delivered",
    Action.DELAYED: "Your message is delayed and still being tried",
    Action.RELAYED: "Your message was handed on",
    Action.EXPANDED: "Your message was delivered to a list",
    Action.DELIVERED: "Your message was delivered",
}

_HAPPENED = {
    Action.FAILED: "could not be delivered, and it will not be tried again:",
    Action.DELAYED: "has not been delivered yet. It is still being tried, and you need not send it again:",
    Action.RELAYED: "was handed on to a mail system that sends no confirmations of its own:",
    Action.EXPANDED: "was delivered to a list, which sends no confirmations of its own:",
    Action.DELIVERED: "was delivered:",
}

_WHY = {
    Reason.CONNECTION_FAILED: "No connection to the recipient's mail server could be made.",
    Reason.CONNECTION_LOST: "The recipient's mail server broke the connection off.",
    Reason.TIMEOUT: "The recipient's mail server did not answer in time.",
    Reason.TLS_FAILED: "No encrypted connection to the recipient's mail server could be made.",
    Reason.PROTOCOL_ERROR: "The recipient's mail server did not answer in a way that can be understood.",
    Reason.NULL_MX: "The recipient's domain says that it takes no mail.",
    Reason.NO_SUCH_DOMAIN: "The recipient's domain does not exist.",
    Reason.NO_ADDRESS: "The recipient's domain names no mail server that can be found.",
    Reason.DNS_TROUBLE: "The name servers of the recipient's domain gave no usable answer.",
    Reason.ADDRESS_NOT_ALLOWED: "The recipient's domain points to an address that is not on the Internet.",
    Reason.SUPPRESSED: "Mail to this address has failed before, so it was not tried again.",
    Reason.LOOP: "The recipient's domain leads back to this relay, which is not its mail server.",
    Reason.NEEDS_SMTPUTF8: "The message needs international addresses, which the recipient's mail server"
    " does not know.",
    Reason.TOO_BIG: "The message is larger than the recipient's mail server takes.",
    Reason.AMBIGUOUS: "The recipient's mail server was given the message, and its answer was never heard."
    " The message may have arrived all the same.",
    Reason.ROUTE_UNUSABLE: "This relay's way to the recipient's mail server could not be used.",
    Reason.AUTH_FAILED: "This relay could not log in to the server that it sends by.",
    Reason.WORKER_FAILED: "This relay had trouble of its own.",
    Reason.ATTEMPTS_USED_UP: "It was tried as often as this relay tries.",
    Reason.EXPIRED: "It was tried for as long as this relay tries.",
    Reason.CIRCUIT_OPEN: "The recipient's mail server failed too often lately, and is given a rest.",
    Reason.SLOT_RESERVED: "More mail is waiting for it than the recipient's mail server is given at a time.",
    Reason.RATE_LIMITED: "More mail is waiting for it than the recipient's mail server is given at a time.",
    Reason.CONNECTIONS_IN_USE: "All connections to the recipient's mail server that this relay may make are"
    " in use.",
    Reason.CONTENT_LOST: "This relay no longer has the content of the message.",
    Reason.FROZEN: "The administrators of this relay have stopped mail to the recipient's domain for now.",
    Reason.OPERATOR_DELETE: "An administrator of this relay took the message out of its queue.",
}

_CHECK_ADDRESS = "Check the address for typing errors, and send the message again to the right one."
_ASK_THERE = (
    "Try to reach the recipient in another way, and let their mail administrators know; this report has"
    " what they need."
)
_SEND_AGAIN = "Send the message again. If that fails too, show this report to your mail administrators."

_ADVICE = {
    Reason.NULL_MX: _CHECK_ADDRESS,
    Reason.NO_SUCH_DOMAIN: _CHECK_ADDRESS,
    Reason.NO_ADDRESS: _CHECK_ADDRESS,
    Reason.NEEDS_SMTPUTF8: "Use an address of plain letters, if the recipient has one.",
    Reason.WORKER_FAILED: _SEND_AGAIN,
    Reason.CONTENT_LOST: _SEND_AGAIN,
    Reason.OPERATOR_DELETE: "Ask your mail administrators why before you send it again.",
}

# By subject and detail of the status (RFC 3463 §3, RFC 7504 §3), where the next hop's reply is the reason.
_ADVICE_BY_STATUS = {
    (1, 1): _CHECK_ADDRESS,
    (1, 2): _CHECK_ADDRESS,
    (1, 3): _CHECK_ADDRESS,
    (1, 10): _CHECK_ADDRESS,
    (2, 2): "The recipient's mailbox is full: try again later, or reach the recipient in another way.",
    (2, 3): "Make the message smaller, or share large files in another way.",
    (3, 4): "Make the message smaller, or share large files in another way.",
}
_ADVICE_POLICY = (
    "The recipient's mail system refuses it by its rules. Show this report to your mail administrators."
)
_ADVICE_DEFAULT = (
    "If the reply does not explain itself, show this report to your mail administrators, or let the"
    " recipient's know."
)


def subject(report: Report) -> str:
    """What the gravest thing is that the report says, in the operator's words or ours."""
    own = report.template.subject
    if own is None:
        return _SUBJECTS[_gravest(report)]
    return Template(own).substitute(
        relay=report.reporting_mta, subject=_SUBJECTS[_gravest(report)], event=_gravest(report).value
    )


def body(report: Report) -> str:
    """The whole human part."""
    own = report.template.body
    if own is not None:
        text = Template(own).substitute(_body_fields(report))
        lines = [printable(line).rstrip() for line in text.replace("\r\n", "\n").split("\n")]
        return "\n".join(lines).rstrip("\n") + "\n"
    paragraphs = [f"This is the mail relay {report.reporting_mta}.", *_recipients(report)]
    if report.arrival_date is not None:
        paragraphs.append(f"The message was received on {format_datetime(report.arrival_date)}.")
    returned = _returned(report)
    returned = f"and {returned} " if returned else ""
    paragraphs.append(_wrapped(f"Details for mail administrators {returned}follow below."))
    return "\n\n".join(paragraphs) + "\n"


def _gravest(report: Report) -> Action:
    return min((recipient.action for recipient in report.recipients), key=_URGENCY.index)


def _returned(report: Report) -> str:
    if report.original_message:
        return "your message"
    return "the header of your message" if report.original_headers else ""


def _recipients(report: Report) -> Iterator[str]:
    """Paragraphs: what happened, and each recipient that it happened to."""
    for action in _URGENCY:
        concerned = [recipient for recipient in report.recipients if recipient.action is action]
        if concerned:
            yield _wrapped(f"Your message to the following {_count(concerned)}{_HAPPENED[action]}")
            for recipient in concerned:
                yield _told(recipient, report.template.recipient)


def _told(recipient: ReportedRecipient, template: str | None) -> str:
    if template is None:
        return "\n".join(_story(recipient))
    return Template(template).substitute(_recipient_fields(recipient)).rstrip("\n")


def _body_fields(report: Report) -> Mapping[str, str]:
    return {
        "relay": report.reporting_mta,
        "subject": _SUBJECTS[_gravest(report)],
        "event": _gravest(report).value,
        "recipients": "\n\n".join(_recipients(report)),
        "received": _moment(report.arrival_date),
        "returned": _returned(report),
        "envelope_id": printable(decoded_xtext(report.envid)) if report.envid else "",
        "report_id": report.report_id,
    }


def _recipient_fields(recipient: ReportedRecipient) -> Mapping[str, str]:
    return {
        "address": printable(str(recipient.final_recipient)),
        "original": _original(recipient),
        "why": _WHY.get(recipient.reason, "") if recipient.reason else "",
        "reply": " ".join(_lines_of(recipient)),
        "advice": _advice(recipient) if recipient.action is Action.FAILED else "",
        "server": printable(recipient.remote_mta or ""),
        "status": str(recipient.status),
        "until": _moment(recipient.will_retry_until),
    }


def _moment(instant: datetime | None) -> str:
    return "" if instant is None else format_datetime(instant)


def printable(text: str) -> str:
    """`text` without anything that moves the cursor or turns the direction of reading."""
    return DIRECTION.sub("?", UNPRINTABLE.sub(" ", text))


def _count(recipients: list[ReportedRecipient]) -> str:
    return "recipient " if len(recipients) == 1 else f"{len(recipients)} recipients "


def _story(recipient: ReportedRecipient) -> Iterator[str]:
    original = _original(recipient)
    sent_to = f" (sent to {original})" if original else ""
    yield f"  {printable(str(recipient.final_recipient))}{sent_to}"
    if recipient.reason in _WHY:
        yield _wrapped(_WHY[recipient.reason], "    ")
    if recipient.diagnostic is not None:
        yield _wrapped(_whose_words(recipient), "    ")
        code, *text = _lines_of(recipient)
        yield f"      {code}"
        yield from (f"      {line}" for line in text)
    if recipient.action is Action.DELAYED and recipient.will_retry_until is not None:
        yield _wrapped(f"It is tried until {format_datetime(recipient.will_retry_until)}.", "    ")
    if recipient.action is Action.FAILED:
        yield _wrapped(f"What you can do: {_advice(recipient)}", "    ")


def _original(recipient: ReportedRecipient) -> str:
    """The address that the sender knows (ORCPT), where it is another one; else empty."""
    original = printable(original_address(recipient.orcpt) or "") if recipient.orcpt else ""
    return "" if original.lower() == printable(str(recipient.final_recipient)).lower() else original


def _whose_words(recipient: ReportedRecipient) -> str:
    if not recipient.heard:
        return "The error is:"
    host = printable(recipient.remote_mta or "the recipient's mail server")
    last = "last " if recipient.reason in (Reason.EXPIRED, Reason.ATTEMPTS_USED_UP) else ""
    return f"The {last}reply of {host} was:"


def _lines_of(recipient: ReportedRecipient) -> list[str]:
    """The reply as it was said, a line for each of its lines."""
    reply = recipient.diagnostic
    if reply is None:
        return []
    first, *rest = reply.text.split("\n")
    opening = " ".join(part for part in (str(reply.code), str(reply.enhanced or ""), first) if part)
    return [printable(line) for line in (opening, *rest)]


def _advice(recipient: ReportedRecipient) -> str:
    if recipient.reason in _ADVICE:
        return _ADVICE[recipient.reason]
    if not recipient.heard or recipient.reason in (Reason.EXPIRED, Reason.ATTEMPTS_USED_UP):
        return _ASK_THERE
    status = recipient.status
    if status.subject == 7:
        return _ADVICE_POLICY
    return _ADVICE_BY_STATUS.get((status.subject, status.detail), _ADVICE_DEFAULT)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
