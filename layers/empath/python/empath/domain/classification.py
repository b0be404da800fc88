"""What kind of trouble a failed or deferred recipient met: one word of a small published set.

Asked in this order, and the first that knows decides: our own reason; a next hop's enhanced code, where it
says one thing (RFC 3463 §3, the IANA registry of SMTP enhanced status codes); the words of the reply, as
large receivers publish them; a vague enhanced code; the bare code (RFC 5321 §4.2.3). The words come before
vague codes because 5.7.1 and its like are given for almost anything.

docs/CLASSIFICATION.md is the same for operators, with the sources of the words.
"""

from __future__ import annotations

import re
from enum import StrEnum

from empath.domain.reason import Reason
from empath.domain.reply import Reply


class TroubleClass(StrEnum):
    MAILBOX = "mailbox"  # this address: unknown, disabled, moved, full
    DOMAIN = "domain"  # its domain: not there, takes no mail, cannot be routed to
    POLICY = "policy"  # the receiver's rules: blocked, not allowed, relaying denied
    SPAM = "spam"  # the message or its source is taken for unwanted mail
    RATE = "rate"  # too much at a time: slow down
    AUTH = "auth"  # who we say we are: SMTP AUTH, SPF, DKIM, DMARC, reverse DNS
    NETWORK = "network"  # no connection, or one that broke off
    TLS = "tls"  # no encryption where it is needed, or none that can be trusted
    SIZE = "size"  # larger than is taken
    CONTENT = "content"  # what the message is made of, other than spam
    OTHER = "other"


_C = TroubleClass

OF_REASON = {
    Reason.CONNECTION_FAILED: _C.NETWORK,
    Reason.CONNECTION_LOST: _C.NETWORK,
    Reason.TIMEOUT: _C.NETWORK,
    Reason.TLS_FAILED: _C.TLS,
    Reason.NULL_MX: _C.DOMAIN,
    Reason.NO_SUCH_DOMAIN: _C.DOMAIN,
    Reason.NO_ADDRESS: _C.DOMAIN,
    Reason.DNS_TROUBLE: _C.DOMAIN,
    Reason.ADDRESS_NOT_ALLOWED: _C.DOMAIN,
    Reason.LOOP: _C.DOMAIN,
    Reason.NEEDS_SMTPUTF8: _C.CONTENT,
    Reason.TOO_BIG: _C.SIZE,
    Reason.SUPPRESSED: _C.MAILBOX,
    Reason.PROTOCOL_ERROR: _C.OTHER,
    Reason.WORKER_FAILED: _C.OTHER,
    Reason.CONTENT_LOST: _C.OTHER,
    Reason.RATE_LIMITED: _C.RATE,
    Reason.SLOT_RESERVED: _C.RATE,
    Reason.CONNECTIONS_IN_USE: _C.RATE,
    Reason.CIRCUIT_OPEN: _C.NETWORK,
    Reason.ROUTE_UNUSABLE: _C.OTHER,
    Reason.AUTH_FAILED: _C.AUTH,
    Reason.AMBIGUOUS: _C.NETWORK,
    Reason.OPERATOR_DELETE: _C.OTHER,
    Reason.FROZEN: _C.OTHER,
}
"""Reasons that say all. NEXT_HOP_REPLY, EXPIRED and ATTEMPTS_USED_UP leave it to the reply."""

# (subject, detail): RFC 3463 §3.2 to §3.8 unless said otherwise.
OF_STATUS = {
    (1, 1): _C.MAILBOX,
    (1, 2): _C.DOMAIN,
    (1, 3): _C.MAILBOX,
    (1, 4): _C.MAILBOX,
    (1, 6): _C.MAILBOX,
    (1, 7): _C.POLICY,
    (1, 8): _C.POLICY,
    (1, 10): _C.DOMAIN,  # RFC 7505 §4.2
    (2, 2): _C.MAILBOX,
    (2, 3): _C.SIZE,
    (2, 4): _C.MAILBOX,
    (3, 4): _C.SIZE,
    (4, 2): _C.NETWORK,
    (4, 3): _C.DOMAIN,
    (4, 4): _C.DOMAIN,
    (4, 5): _C.RATE,
    (4, 6): _C.DOMAIN,
    (5, 3): _C.RATE,
    (5, 6): _C.AUTH,  # RFC 4954 §6
    (6, 1): _C.CONTENT,
    (6, 2): _C.CONTENT,
    (6, 3): _C.CONTENT,
    (6, 4): _C.CONTENT,
    (6, 5): _C.CONTENT,
    (6, 6): _C.CONTENT,  # RFC 4468 §6
    (6, 7): _C.CONTENT,  # RFC 6531 §5
    (6, 8): _C.CONTENT,
    (6, 9): _C.CONTENT,
    (6, 10): _C.CONTENT,
    (7, 2): _C.POLICY,
    (7, 5): _C.TLS,
    (7, 6): _C.TLS,
    (7, 7): _C.CONTENT,
    (7, 8): _C.AUTH,  # RFC 4954 §6
    (7, 9): _C.AUTH,  # RFC 4954 §6
    (7, 10): _C.TLS,  # RFC 5248 §3
    (7, 11): _C.TLS,  # RFC 4954 §6
    (7, 12): _C.AUTH,  # RFC 4954 §6
    (7, 13): _C.AUTH,  # RFC 5248 §3: the account that authenticates
    (7, 14): _C.AUTH,  # RFC 5248 §3
    (7, 15): _C.POLICY,  # RFC 6710 §8
    (7, 16): _C.SIZE,  # RFC 6710 §8
    (7, 17): _C.MAILBOX,  # RFC 7293 §14
    (7, 18): _C.DOMAIN,  # RFC 7293 §14
    (7, 20): _C.AUTH,  # RFC 7372 §3.1
    (7, 21): _C.AUTH,  # RFC 7372 §3.1
    (7, 22): _C.AUTH,  # RFC 7372 §3.1
    (7, 23): _C.AUTH,  # RFC 7372 §3.2
    (7, 24): _C.AUTH,  # RFC 7372 §3.2
    (7, 25): _C.AUTH,  # RFC 7372 §3.3
    (7, 26): _C.AUTH,  # RFC 7372 §3.4
    (7, 27): _C.POLICY,  # RFC 7505 §4.2
    (7, 28): _C.RATE,  # the IANA registry: mail flood detected
    (7, 29): _C.AUTH,  # RFC 8617 §6
    (7, 30): _C.TLS,  # RFC 8689 §6.2
}
"""Enhanced codes that say one thing."""

# Below: the words that receivers use, most telling first. Provenance is in docs/CLASSIFICATION.md.
WORDS: tuple[tuple[TroubleClass, str], ...] = (
    (_C.AUTH, r"\bspf\b|\bdkim\b|\bdmarc\b|unauthenticated|authentication (?:required|failed|credentials)"),
    (_C.AUTH, r"reverse dns|\bptr\b|reverse hostname"),
    (_C.TLS, r"must issue a starttls|starttls (?:is )?(?:required|first)|requires? tls|encryption required"),
    (
        _C.RATE,
        r"too many (?:connections|messages|recipients|sessions|concurrent)|rate[ -]?limit|throttl"
        r"|unusual rate|at a rate that|slow down|too fast|sending (?:quota|limit)|connection (?:rate|limit)",
    ),
    (_C.RATE, r"gr[ae]y[ -]?list"),
    (_C.SIZE, r"message (?:size|is too (?:big|large)|too (?:big|large))|exceeds? (?:the )?(?:maximum )?size"),
    (_C.MAILBOX, r"(?:mailbox|inbox|account|user|recipient)\b.{0,40}\b(?:full|over ?quota|out of storage)"),
    (_C.MAILBOX, r"(?:over|exceed\w*)\b.{0,20}\bquota|recipient address rejected: access denied"),
    (
        _C.MAILBOX,
        r"(?:user|recipient|mailbox|account|address)s?\b.{0,60}"
        r"\b(?:unknown|not found|not exist|inactive|disabled|unavailable|invalid|suspended|no longer)",
    ),
    (
        _C.MAILBOX,
        r"(?:no such|unknown|invalid|nonexistent) (?:local )?(?:user|recipient|mailbox|account|addr)",
    ),
    (_C.MAILBOX, r"(?:does not|doesn't) (?:exist|have an? \S+ account)|no mailbox here"),
    (
        _C.SPAM,
        r"\bspam|unsolicited|block ?list|black ?list|\brbl\b|dnsbl|spamhaus|barracudacentral|spamcop"
        r"|reputation|junk mail|user complaints|listed (?:in|on|by|at)\b",
    ),
    (_C.CONTENT, r"virus|malware|phish|attachment|prohibited (?:content|file)|security issue"),
    (_C.CONTENT, r"rfc ?5322|rfc ?2822|header|mime|\bbare (?:lf|cr)\b"),
    (_C.DOMAIN, r"(?:domain|host)\b.{0,40}\b(?:not found|not exist|unknown|unrout)|unrout\w+ address"),
    (
        _C.POLICY,
        r"relay(?:ing)? (?:access )?(?:denied|not (?:permitted|allowed))|unable to relay|polic(?:y|ies)"
        r"|access denied|not (?:allowed|permitted|authori[sz]ed)|blocked|denied|prohibited|refused",
    ),
    (_C.NETWORK, r"timed? ?out|connection (?:lost|reset|refused|closed)"),
)

# Enhanced codes that are given for many things, asked after the words.
VAGUE_STATUS = {
    (2, 0): _C.MAILBOX,
    (2, 1): _C.MAILBOX,
    (4, 0): _C.NETWORK,
    (4, 1): _C.NETWORK,
    (6, 0): _C.CONTENT,
    (7, 0): _C.POLICY,
    (7, 1): _C.POLICY,
    (7, 3): _C.POLICY,
    (7, 4): _C.POLICY,
}

# RFC 5321 §4.2.3, RFC 4954 §6, RFC 7504, RFC 7505; codes that are not here say nothing of the kind.
OF_CODE = {
    521: _C.DOMAIN,
    523: _C.SIZE,
    524: _C.AUTH,
    525: _C.AUTH,
    530: _C.AUTH,
    534: _C.AUTH,
    535: _C.AUTH,
    538: _C.TLS,
    551: _C.MAILBOX,
    552: _C.MAILBOX,
    553: _C.MAILBOX,
    556: _C.DOMAIN,
}

_WORDS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in WORDS)


def classify(reply: Reply | None, reason: Reason | None = None) -> TroubleClass:
    """The class of a recipient that was not sent to; OTHER when nothing is known. Never raises."""
    known = OF_REASON.get(reason) if reason is not None else None
    if known is not None:
        return known
    if reply is None:
        return TroubleClass.OTHER
    place = (reply.enhanced.subject, reply.enhanced.detail) if reply.enhanced is not None else None
    known = OF_STATUS.get(place) if place is not None else None
    if known is not None:
        return known
    text = reply.text.replace("\n", " ")
    for kind, pattern in _WORDS:
        if pattern.search(text):
            return kind
    vague = VAGUE_STATUS.get(place) if place is not None else None
    return vague or OF_CODE.get(reply.code, TroubleClass.OTHER)
