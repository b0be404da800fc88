"""Whatever is reported on: one readable message without defects, and `parse` finds what `compose` wrote."""

import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import Message

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from empath.domain.address import Mailbox
from empath.domain.reason import Reason
from empath.domain.reply import EnhancedStatusCode, Reply
from empath.domain.report_policy import ReportTemplate
from empath.dsn.compose import compose_report
from empath.dsn.encoding import decoded_xtext, escaped_text, unencoded_form, unescaped
from empath.dsn.model import Action, Report, ReportedRecipient, UnreadableReport, header_section
from empath.dsn.parse import parse_report

instants = st.datetimes(
    datetime(1990, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda instant: instant.replace(microsecond=0))
# Weighted towards what hurts: line ends, separators of fields, escapes, boundaries.
nasty = st.lists(
    st.one_of(
        st.sampled_from(
            ["\r\n", "\r", "\n", "\0", ":", ";", "--=_empath_", "\\x{41}", "=?utf-8?q?a?=", " ", "\t"]
        ),
        st.sampled_from(
            ["Action: delivered", "\r\n\r\n", ".", "<", ">", '"', "\u2028", "\u202e", "\ud800", "ü", "💌"]
        ),
        st.text(max_size=20),
        st.text(alphabet="x", min_size=300, max_size=600),
    ),
    max_size=8,
).map("".join)
statuses = st.builds(EnhancedStatusCode, st.sampled_from([2, 4, 5]), st.integers(0, 999), st.integers(0, 999))
replies = st.one_of(
    st.builds(Reply.heard, st.integers(200, 599), nasty),
    st.builds(Reply, code=st.integers(200, 599), enhanced=st.none() | statuses, text=nasty),
)
recipients = st.builds(
    ReportedRecipient,
    final_recipient=st.builds(Mailbox, nasty, nasty),
    action=st.sampled_from(Action),
    status=statuses,
    orcpt=st.none() | nasty | nasty.map("rfc822;{}".format) | nasty.map("utf-8;{}".format),
    remote_mta=st.none() | nasty,
    diagnostic=st.none() | replies,
    reason=st.none() | st.sampled_from(Reason),
    last_attempt=st.none() | instants,
    will_retry_until=st.none() | instants,
)
words = nasty.map(lambda text: text.encode("utf-8", "ignore").decode().replace("$", "$$"))
templates = st.builds(
    ReportTemplate,
    subject=st.none() | words.map("{} $subject".format),
    body=st.none() | words.map("{}\n$recipients$envelope_id".format),
    recipient=st.none() | st.just("$address $original\n$reply $server\n$why $advice $status $until"),
)
reports = st.builds(
    Report,
    report_id=st.from_regex(r"[A-Z0-9]{26}", fullmatch=True),
    reporting_mta=st.sampled_from(["relay.example.com", "[192.0.2.1]", "[IPv6:2001:db8::1]"]),
    composed_at=instants,
    reverse_path=st.builds(Mailbox, nasty, nasty),
    recipients=st.lists(recipients, min_size=1, max_size=4).map(tuple),
    arrival_date=st.none() | instants,
    envid=st.none() | nasty,
    original_headers=st.binary(max_size=300) | nasty.map(lambda text: text.encode("utf-8", "replace")),
    original_message=st.just(b"")
    | st.binary(max_size=300)
    | nasty.map(lambda text: f"Subject: {text}\r\n\r\n{text}\r\n".encode("utf-8", "replace")),
    received_from=st.none() | nasty,
    international=st.booleans(),
    template=templates,
)


def blocks_of(content: bytes) -> list[Message]:
    """The groups of fields of a report, read as if their type were the ASCII one, which `email` knows."""
    start = content.index(b"\r\nContent-Type: message/", content.index(b"\r\n--=_empath"))
    start = content.index(b"\r\n\r\n", start) + 4
    status = content[start : content.index(b"\r\n--=_empath", start)]
    payload = message_from_bytes(b"Content-Type: message/delivery-status\r\n\r\n" + status).get_payload()
    assert isinstance(payload, list)
    return [block for block in payload if isinstance(block, Message) and block.keys()]


def defects(message: Message) -> list[object]:
    """Of the report itself: what strangers wrote into the message that it returns is their own."""
    payload = message.get_payload()
    assert isinstance(payload, list)
    text, status, *returned = (part for part in payload if isinstance(part, Message))
    ours = [message, *text.walk(), *status.walk(), *returned]
    return [defect for part in ours for defect in part.defects]


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@settings(max_examples=200, deadline=None)
@given(reports)
def test_any_report_is_in_crlf_lines_of_bounded_length_and_7_bit_unless_asked_for(report: Report) -> None:
    content = compose_report(report)
    header, _, _ = content.partition(b"\r\n\r\n")
    assert header.isascii()
    assert content.isascii() or report.international or report.original_message
    assert (b"Content-Transfer-Encoding: 7bit" in header) is content.isascii()
    assert b"\0" not in content
    lines = content.split(b"\r\n")
    assert all(len(line) <= 998 and b"\r" not in line and b"\n" not in line for line in lines)
    assert content.endswith(b"\r\n")


@settings(max_examples=200, deadline=None)
@given(reports)
def test_any_report_is_one_message_without_defects_or_added_fields(report: Report) -> None:
    for rules in (policy.default, policy.compat32):
        message = message_from_bytes(compose_report(report), policy=rules)
        assert defects(message) == []
        assert [name.lower() for name in message.keys()] == [  # noqa: SIM118
            "from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version",
            "content-type", "content-transfer-encoding",
        ]  # fmt: skip
        parts = message.get_payload()
        assert isinstance(parts, list)
        assert len(parts) - 2 in ((1,) if report.original_headers else (0, 1))
        groups = blocks_of(compose_report(report))[1:]
        assert len(groups) == len(report.recipients)
        for group, recipient in zip(groups, report.recipients, strict=True):
            assert group.get_all("Action") == [recipient.action.value]
            assert group.get_all("Status") == [str(recipient.status)]
            assert len(group.get_all("Final-Recipient", [])) == 1
            assert len(group.keys()) == len({name.lower() for name in group.keys()})  # noqa: SIM118


@settings(max_examples=200, deadline=None)
@given(reports)
def test_what_is_composed_is_parsed(report: Report) -> None:
    parsed = parse_report(compose_report(report))
    assert parsed.reporting_mta == report.reporting_mta
    assert parsed.message_id == f"<{report.report_id}@{report.reporting_mta}>"
    assert parsed.arrival_date == report.arrival_date
    if parsed.original_message:
        assert parsed.original_message == ended(report.original_message)
        assert parsed.original_headers == b""
    else:
        assert unencoded_form(ended(report.original_message)) is None or not report.original_message
        headers = ended(report.original_headers) or header_section(ended(report.original_message))
        assert parsed.original_headers == headers
    assert (parsed.received_from is None) == (not report.received_from)
    for found, recipient in zip(parsed.recipients, report.recipients, strict=True):
        assert found.action is recipient.action
        assert found.status == recipient.status
        assert found.last_attempt == recipient.last_attempt
        assert found.will_retry_until == recipient.will_retry_until
        assert (found.diagnostic is None) == (recipient.diagnostic is None)


def ended(octets: bytes) -> bytes:
    return octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"


PLAIN = Report(
    report_id="R1",
    reporting_mta="relay.example.com",
    composed_at=datetime(2026, 3, 1, tzinfo=UTC),
    reverse_path=Mailbox("alice", "example.com"),
    recipients=(
        ReportedRecipient(
            final_recipient=Mailbox("bob", "example.com"),
            action=Action.FAILED,
            status=EnhancedStatusCode(5, 1, 1),
        ),
    ),
)


def reported(**changes: object) -> Report:
    return PLAIN.model_copy(update={"recipients": (PLAIN.recipients[0].model_copy(update=changes),)})


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=60))
def test_an_address_in_any_letters_comes_back(local_part: str) -> None:
    mailbox = Mailbox(local_part, "example.com")
    (recipient,) = parse_report(compose_report(reported(final_recipient=mailbox))).recipients
    assert recipient.final_recipient == str(mailbox)


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=60))
def test_an_address_comes_back_in_the_form_for_those_who_can_read_it(local_part: str) -> None:
    report = reported(final_recipient=Mailbox(local_part, "example.com"))
    content = compose_report(report.model_copy(update={"international": True}))
    (recipient,) = parse_report(content).recipients
    assert recipient.final_recipient == str(Mailbox(local_part, "example.com"))


@given(nasty)
@example("\\x{41} and \\x{")
def test_a_reply_comes_back_in_its_words(text: str) -> None:
    reply = Reply.heard(550, text)
    (recipient,) = parse_report(compose_report(reported(diagnostic=reply))).recipients
    if len(escaped_text(str(reply))) <= 400:
        assert recipient.diagnostic == str(reply).strip()
    else:  # folded: what was one long word may have a space in it
        assert squeezed(str(recipient.diagnostic))[:300] == squeezed(str(reply))[:300]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_escaping_is_exact(text: str) -> None:
    assert unescaped(escaped_text(text)) == text


@given(nasty)
def test_decoded_xtext_is_never_less_safe_than_its_source(text: str) -> None:
    assert decoded_xtext(text) == text or decoded_xtext(text).isprintable()


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=200).map(
            b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n"
            b"Content-Type: message/delivery-status\r\n\r\n".__add__
        ),
        st.tuples(st.integers(0, 2000), st.binary(max_size=20)).map(
            lambda change: compose_report(PLAIN)[: change[0]] + change[1] + compose_report(PLAIN)[change[0] :]
        ),
    )
)
def test_any_octets_are_a_report_or_unreadable(content: bytes) -> None:
    try:
        parse_report(content)
    except UnreadableReport as error:
        assert str(error)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ((b"multipart/report", b"multipart/mixed"), "multipart/mixed"),
        ((b"message/delivery-status", b"text/x"), "no part of type"),
        ((b"Status: 5.1.1\r\n", b""), "Status"),
        ((b"Status: 5.1.1", b"Status: five"), "five"),
        ((b"Action: failed", b"Action: lost"), "lost"),
        ((b"Reporting-MTA", b"X-MTA"), "Reporting-MTA"),
    ],
)
def test_an_unreadable_report_is_told_why(change: tuple[bytes, bytes], problem: str) -> None:
    with pytest.raises(UnreadableReport, match=problem):
        parse_report(compose_report(PLAIN).replace(*change))


def test_another_relays_report_is_read() -> None:
    content = (
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
        b"--b\nContent-Type: text/plain\n\nSorry.\n--b\n"
        b"Content-Type: message/delivery-status\n\n"
        b"Reporting-MTA: dns; mx.example.org\nX-Queue: 1\nArrival-Date: nonsense\n\n"
        b"Final-Recipient: RFC822;Bob@Example.org\nAction: Failed\nStatus: 5.0.0 (unknown)\n"
        b"Diagnostic-Code: smtp; 550 no\n    such user\n\n--b--\n"
    )
    report = parse_report(content)
    (recipient,) = report.recipients
    assert recipient.final_recipient == "Bob@Example.org"
    assert recipient.diagnostic == "550 no    such user"
    assert report.arrival_date is None
    assert report.text == "Sorry."
