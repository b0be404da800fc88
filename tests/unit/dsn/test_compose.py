"""A report is what RFC 3464 says, in octets that any reader understands."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage, Message

import pytest
from pydantic import ValidationError

from empath.domain.address import Mailbox, parse_mailbox
from empath.domain.reason import Reason
from empath.domain.reply import EnhancedStatusCode, Reply
from empath.dsn.compose import compose_report
from empath.dsn.model import Action, Report, ReportedRecipient

RECIPIENT = ReportedRecipient(
    final_recipient=parse_mailbox("bob@reject.test"),
    action=Action.FAILED,
    status=EnhancedStatusCode(5, 1, 1),
    orcpt="rfc822;Bob+2Bx@reject.test",
    remote_mta="mx.reject.test",
    diagnostic=Reply.of(550, "5.1.1", "<bob@reject.test>: no such user here"),
    reason=Reason.NEXT_HOP_REPLY,
    last_attempt=datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC),
)
REPORT = Report(
    report_id="01JNA0000000000000000000RP",
    reporting_mta="relay.example.com",
    composed_at=datetime(2026, 3, 1, 12, 1, tzinfo=UTC),
    arrival_date=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
    envid="QQ+2D314159",
    reverse_path=parse_mailbox("alice@example.com"),
    recipients=(RECIPIENT,),
    original_headers=b"From: alice@example.com\r\nSubject: hello\r\n",
)


def with_recipient(**changes: object) -> Report:
    return REPORT.model_copy(update={"recipients": (RECIPIENT.model_copy(update=changes),)})


def read(report: Report) -> EmailMessage:
    message = message_from_bytes(compose_report(report), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def groups_of(report: Report) -> list[Message]:
    """The per-recipient groups as `email` reads them."""
    payload = list(read(report).iter_parts())[1].get_payload()
    assert isinstance(payload, list)
    return [block for block in payload if isinstance(block, Message) and "Final-Recipient" in block]


def status_part(report: Report) -> str:
    """The delivery-status part as it is on the wire."""
    content = compose_report(report).decode("ascii")
    start = content.index("\r\n\r\n", content.index("Content-Type: message/delivery-status")) + 4
    return content[start : content.index("\r\n--=_empath", start)]


def text_part(report: Report) -> str:
    part = next(read(report).iter_parts())
    assert isinstance(part, EmailMessage)
    return str(part.get_content()).replace("\r\n", "\n")


def test_the_delivery_status_part_is_exact() -> None:
    assert status_part(REPORT) == (
        "Original-Envelope-Id: QQ-314159\r\n"
        "Reporting-MTA: dns; relay.example.com\r\n"
        "Arrival-Date: Sun, 01 Mar 2026 12:00:00 +0000\r\n"
        "\r\n"
        "Original-Recipient: rfc822;Bob+x@reject.test\r\n"
        "Final-Recipient: rfc822; bob@reject.test\r\n"
        "Action: failed\r\n"
        "Status: 5.1.1\r\n"
        "Remote-MTA: dns; mx.reject.test\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 <bob@reject.test>: no such user here\r\n"
        "Last-Attempt-Date: Sun, 01 Mar 2026 12:00:05 +0000\r\n"
    )


def test_the_header_names_sender_recipient_and_kind() -> None:
    message = read(REPORT)
    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "delivery-status"
    assert message["From"] == "Mail Delivery System <mailer-daemon@relay.example.com>"
    assert message["To"] == "alice@example.com"
    assert message["Date"] == "Sun, 01 Mar 2026 12:01:00 +0000"
    assert message["Message-ID"] == "<01JNA0000000000000000000RP@relay.example.com>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert [field.defects for field in message.values()] == [()] * len(message)
    assert message["MIME-Version"] == "1.0"
    assert message["Subject"] == "Your message could not be delivered"


def test_the_parts_are_text_then_status_then_the_headers() -> None:
    kinds = [part.get_content_type() for part in read(REPORT).iter_parts()]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"]


def test_without_original_headers_nothing_is_returned() -> None:
    kinds = [
        part.get_content_type()
        for part in read(REPORT.model_copy(update={"original_headers": b""})).iter_parts()
    ]
    assert kinds == ["text/plain", "message/delivery-status"]


def test_the_same_report_gives_the_same_octets() -> None:
    assert compose_report(REPORT) == compose_report(Report.model_validate(REPORT.model_dump()))


def test_a_report_of_another_message_has_another_boundary() -> None:
    other = read(REPORT.model_copy(update={"report_id": "OTHER"}))
    assert other.get_boundary() != read(REPORT).get_boundary()


def test_the_text_says_what_happened_why_and_what_to_do() -> None:
    text = text_part(REPORT)
    assert "could not be delivered" in text
    assert "bob@reject.test" in text
    assert "The reply of mx.reject.test was:" in text
    assert "550 5.1.1 <bob@reject.test>: no such user here" in text
    assert "What you can do: Check the address" in text


@pytest.mark.parametrize("reason", [None, *Reason])
@pytest.mark.parametrize("action", Action)
def test_every_reason_and_action_has_words(reason: Reason | None, action: Action) -> None:
    text = text_part(with_recipient(reason=reason, action=action))
    assert "bob@reject.test" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_a_reply_of_several_lines_is_told_line_by_line_and_as_one_field() -> None:
    report = with_recipient(diagnostic=Reply.heard(550, "5.7.1 first\n5.7.1 second"))
    assert "      550 5.7.1 first\n      second\n" in text_part(report)
    assert "Diagnostic-Code: smtp; 550 5.7.1 first second\r\n" in status_part(report)


@pytest.mark.parametrize(
    ("orcpt", "told"),
    [
        ("rfc822;Bob+2Bx@first.test", "  bob@reject.test (sent to Bob+x@first.test)\n"),
        ("utf-8;B\\x{F8}b@first.test", "  bob@reject.test (sent to Bøb@first.test)\n"),
        ("rfc822;BOB@reject.test", "  bob@reject.test\n"),
        ("rfc822;a+0D+0Ab@first.test", "  bob@reject.test (sent to a+0D+0Ab@first.test)\n"),
        ("nonsense", "  bob@reject.test\n"),
        (None, "  bob@reject.test\n"),
    ],
)
def test_the_text_names_the_address_that_the_sender_knows(orcpt: str | None, told: str) -> None:
    assert told in text_part(with_recipient(orcpt=orcpt))


def test_words_of_our_own_are_not_called_smtp() -> None:
    report = with_recipient(reason=Reason.NO_SUCH_DOMAIN, diagnostic=Reply.of(550, "5.1.2", "no such domain"))
    assert "Diagnostic-Code: X-Empath; 550 5.1.2 no such domain\r\n" in status_part(report)
    assert "The recipient's domain does not exist." in text_part(report)


def test_a_delayed_recipient_is_told_until_when_it_is_tried() -> None:
    report = with_recipient(action=Action.DELAYED, will_retry_until=datetime(2026, 3, 6, tzinfo=UTC))
    assert "Will-Retry-Until: Fri, 06 Mar 2026 00:00:00 +0000\r\n" in status_part(report)
    assert "tried until Fri, 06 Mar 2026" in text_part(report)
    assert read(report)["Subject"] == "Your message is delayed and still being tried"


def test_each_recipient_has_its_own_group() -> None:
    second = RECIPIENT.model_copy(update={"final_recipient": parse_mailbox("carol@x.test"), "orcpt": None})
    groups = groups_of(REPORT.model_copy(update={"recipients": (RECIPIENT, second)}))
    assert [group["Final-Recipient"] for group in groups] == [
        "rfc822; bob@reject.test",
        "rfc822; carol@x.test",
    ]


def test_8_bit_headers_of_the_original_come_back_as_they_were() -> None:
    original = "Subject: Grüße\r\n".encode() + b"X-Latin: \xe4\xf6\r\nX-Bare: a\rb\nc\0d \r\n"
    message = read(REPORT.model_copy(update={"original_headers": original}))
    part = list(message.iter_parts())[2]
    assert part["Content-Transfer-Encoding"] == "quoted-printable"
    assert part.get_payload(decode=True) == original
    assert compose_report(REPORT).isascii()


def test_a_utf8_recipient_is_written_in_the_7_bit_form_of_its_type() -> None:
    report = with_recipient(final_recipient=parse_mailbox("jürgen+a=b@bücher.test"))
    assert "Final-Recipient: utf-8; j\\x{FC}rgen\\x{2B}a\\x{3D}b@b\\x{FC}cher.test\r\n" in status_part(report)
    assert "jürgen+a=b@bücher.test" in text_part(report)


def test_a_utf8_reverse_path_is_shown_as_a_group() -> None:
    message = read(REPORT.model_copy(update={"reverse_path": parse_mailbox("ü@bücher.test")}))
    assert message["To"] == '"Internationalized address ü@bücher.test removed":;'


def test_a_broken_orcpt_is_left_out_and_a_dangerous_one_stays_encoded() -> None:
    assert "Original-Recipient" not in status_part(with_recipient(orcpt="nonsense"))
    field = status_part(with_recipient(orcpt="rfc822;a+0D+0AAction:+20delivered"))
    assert "Original-Recipient: rfc822;a+0D+0AAction:+20delivered\r\n" in field


def test_control_characters_cannot_end_a_field() -> None:
    mailbox = Mailbox("x\r\nAction: delivered\r\n", "evil.test")
    reply = Reply.of(550, None, "no\r\n\r\nAction: delivered\r\n--=_empath_")
    report = with_recipient(final_recipient=mailbox, diagnostic=reply, remote_mta="a\r\nStatus: 2.0.0")
    (group,) = groups_of(report)
    assert group.get_all("Action") == ["failed"]
    assert group.get_all("Status") == ["5.1.1"]


def test_a_long_reply_is_folded_at_spaces_and_reads_the_same() -> None:
    words = " ".join(f"word{number}" for number in range(140))
    report = with_recipient(diagnostic=Reply.of(550, "5.7.1", words))
    part = status_part(report)
    assert max(len(line) for line in part.split("\r\n")) <= 998
    assert f"550 5.7.1 {words}" in part.replace("\r\n ", " ")


@pytest.mark.parametrize(
    "changes",
    [
        {"reporting_mta": "relay\r\nX: y"},
        {"reporting_mta": "bücher.example"},
        {"report_id": "a b"},
        {"report_id": ""},
        {"recipients": ()},
        {"original_headers": b"x" * 70_000},
    ],
)
def test_a_report_that_could_not_be_written_cannot_be_made(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Report.model_validate({**dict(REPORT), **changes})
