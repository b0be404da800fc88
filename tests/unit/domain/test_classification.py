"""Every trouble has a class, whatever a next hop says; known words have the one they mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.classification import OF_REASON, WORDS, TroubleClass, classify
from empath.domain.reason import Reason
from empath.domain.reply import Reply

DOCUMENT = Path(__file__).parents[3] / "docs" / "CLASSIFICATION.md"

HEARD = [
    # Gmail: support.google.com/a/answer/3726730
    (550, "5.1.1 The email account that you tried to reach does not exist.", "mailbox"),
    (452, "4.2.2 The email account that you tried to reach is over quota.", "mailbox"),
    (421, "4.7.0 Our system has detected an unusual rate of unsolicited mail from your IP address.", "rate"),
    (550, "5.7.1 Our system has detected that this message is likely unsolicited mail.", "spam"),
    (550, "5.7.26 This mail has been blocked because the sender is unauthenticated.", "auth"),
    (552, "5.3.4 Your message exceeded Google's message size limits.", "size"),
    (
        552,
        "5.7.0 This message was blocked because its content presents a potential security issue.",
        "content",
    ),
    (450, "4.2.1 The user you are trying to contact is receiving mail at a rate that", "rate"),
    (550, "5.7.25 The IP address sending this message does not have a PTR record setup.", "auth"),
    # Outlook.com and Exchange Online
    (
        550,
        "5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. You are on our block list (S3150).",
        "spam",
    ),
    (550, "5.4.1 Recipient address rejected: Access denied.", "mailbox"),
    (451, "4.7.500 Server busy. Please try again later.", "other"),
    (550, "5.7.64 TenantAttribution; Relay Access Denied", "policy"),
    # Yahoo: senders.yahooinc.com
    (421, "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints", "spam"),
    (554, "delivery error: dd This user doesn't have a yahoo.com account", "mailbox"),
    (553, "5.7.1 [BL21] Connections not accepted from IP addresses on Spamhaus PBL", "spam"),
    # Postfix: its own texts in smtpd
    (
        550,
        "5.1.1 <x@example.com>: Recipient address rejected: User unknown in local recipient table",
        "mailbox",
    ),
    (554, "5.7.1 <x@example.com>: Relay access denied", "policy"),
    (450, "4.2.0 <x@example.com>: Recipient address rejected: Greylisted, see http://example.com/", "rate"),
    (452, "4.3.1 Insufficient system storage", "other"),
    (530, "5.7.0 Must issue a STARTTLS command first", "tls"),
    (550, "5.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]", "auth"),
    # Exim, qmail and Sendmail
    (550, "Unrouteable address", "domain"),
    (550, "sorry, no mailbox here by that name. (#5.7.17)", "mailbox"),
    (554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", "spam"),
    (421, "4.4.5 Too many connections from your host.", "rate"),
    # Words that are nobody's
    (550, "", "other"),
    (450, "Nyet", "other"),
    (535, "no", "auth"),
    (552, "no", "mailbox"),
]


@pytest.mark.parametrize(("code", "text", "expected"), HEARD)
def test_a_reply_that_is_known_has_the_class_it_means(code: int, text: str, expected: str) -> None:
    assert classify(Reply.heard(code, text), Reason.NEXT_HOP_REPLY) == expected


@given(
    code=st.integers(min_value=-10, max_value=1000),
    text=st.text() | st.from_regex(r"[245]\.\d{1,3}\.\d{1,3} .{0,60}"),
    reason=st.none() | st.sampled_from(Reason),
)
def test_any_reply_gives_a_class_and_never_an_error(code: int, text: str, reason: Reason | None) -> None:
    assert classify(Reply.heard(code, text), reason) in TroubleClass
    assert classify(None, reason) in TroubleClass


@given(st.sampled_from(sorted(OF_REASON)), st.text())
def test_our_own_reason_decides_whatever_the_words_are(reason: Reason, text: str) -> None:
    assert classify(Reply.heard(550, text), reason) is OF_REASON[reason]


def test_every_class_can_come_from_a_reason_a_code_or_words_and_is_documented() -> None:
    document = DOCUMENT.read_text()
    for kind in TroubleClass:
        assert f"| `{kind}` |" in document
    spoken = {kind for kind, _ in WORDS}
    assert spoken | set(OF_REASON.values()) == set(TroubleClass)


def test_words_cost_little_however_long_they_are() -> None:
    # Bounded by `heard`: no pattern may take more than a pass or so over what is kept of a reply.
    for text in ("user " * 400, "over " * 400, "a" * 2000, "domain host " * 150):
        assert classify(Reply.heard(550, text)) is TroubleClass.OTHER
