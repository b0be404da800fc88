"""The operator's words in place of ours."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage

from empath.domain.reply import Reply
from empath.domain.report_policy import ReportTemplate
from empath.dsn.compose import compose_report
from empath.dsn.model import Report
from tests.unit.dsn.test_compose import RECIPIENT, REPORT


def read(report: Report) -> tuple[str, str]:
    """Subject and text, as a mail reader shows them."""
    message = message_from_bytes(compose_report(report), policy=policy.default)
    part = next(message.iter_parts())
    assert isinstance(part, EmailMessage)
    return str(message["Subject"]), str(part.get_content()).replace("\r\n", "\n")


def with_template(report: Report = REPORT, **texts: str) -> Report:
    return report.model_copy(update={"template": ReportTemplate.model_validate(texts)})


def test_a_body_is_the_whole_text_with_its_fields_filled_in() -> None:
    _, text = read(
        with_template(body="Hi!\n\n$recipients\n\n$relay $received $returned $envelope_id $event $$")
    )
    assert text.startswith("Hi!\n\nYour message to the following recipient could not be delivered")
    assert "550 5.1.1 <bob@reject.test>: no such user here" in text
    assert text.endswith(
        "relay.example.com Sun, 01 Mar 2026 12:00:00 +0000 the header of your message QQ-314159 failed $\n"
    )


def test_a_recipient_is_told_in_the_operators_words() -> None:
    _, text = read(with_template(recipient="* $address ($status, $server)\n  $reply\n  $advice"))
    assert (
        "* bob@reject.test (5.1.1, mx.reject.test)\n"
        "  550 5.1.1 <bob@reject.test>: no such user here\n"
        "  Check the address for typing errors" in text
    )


def test_a_subject_in_any_script_is_one_field() -> None:
    subject, _ = read(with_template(subject="Nicht zugestellt: Grüße von $relay ($subject)"))
    assert subject == "Nicht zugestellt: Grüße von relay.example.com (Your message could not be delivered)"
    assert compose_report(with_template(subject="Grüße")).partition(b"\r\n\r\n")[0].isascii()


def test_line_ends_in_a_subject_are_spaces() -> None:
    content = compose_report(with_template(subject="a\r\nBcc: eve@x.test\n\nb"))
    message = message_from_bytes(content)
    assert message["Bcc"] is None
    assert message["Subject"] == "a Bcc: eve@x.test b"


def test_dollar_signs_in_a_strangers_words_stay_what_they_are() -> None:
    reply = Reply.of(550, "5.7.1", "$relay ${event} $$")
    report = REPORT.model_copy(update={"recipients": (RECIPIENT.model_copy(update={"diagnostic": reply}),)})
    _, text = read(with_template(report, body="$recipients", recipient="$reply"))
    assert "550 5.7.1 $relay ${event} $$" in text


def test_what_is_not_known_is_left_empty() -> None:
    report = REPORT.model_copy(update={"envid": None, "arrival_date": None, "original_headers": b""})
    assert read(with_template(report, body="<$envelope_id$received$returned>"))[1] == "<>\n"
