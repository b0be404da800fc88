"""Real mail through the deployed stacks: S3, SQS, Lambda functions and DynamoDB."""

from __future__ import annotations

import email
import json
import os
import random
import subprocess
import sys
from email.message import EmailMessage

import pytest

from empath.domain.delivery_state import State
from empath.domain.reason import Reason
from tests.e2e.deployment import Deployment, eventually, without_trace

pytestmark = pytest.mark.e2e

UMLAUTS = "Gr\u00fc\u00dfe aus K\u00f6ln \u2709\r\n"


def _with_attachment() -> bytes:
    message = EmailMessage()
    message["Subject"] = "ten megabytes"
    message.set_content("See attachment.")
    octets = random.Random(1).randbytes(10 * 1024 * 1024)
    message.add_attachment(octets, maintype="application", subtype="octet-stream", filename="big.bin")
    return message.as_bytes().replace(b"\n", b"\r\n")


CONTENTS = {
    "plain": b"Subject: plain\r\n\r\nHello.\r\n",
    "attachment": _with_attachment(),
    "eightbit": f"Subject: eight bit\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{UMLAUTS}".encode(),
    "dots": b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.x\r\n\r\n.\r\n",
    "longline": b"Subject: long line\r\n\r\n" + b"x" * 998 + b"\r\n",
    "emptybody": b"Subject: empty body\r\n\r\n",
}


@pytest.mark.parametrize("name", CONTENTS)
def test_content_arrives_byte_for_byte_below_the_trace_header(deployment: Deployment, name: str) -> None:
    content = CONTENTS[name]
    message_id = deployment.send([f"bob@{name}.test"], content)
    arrived = deployment.arrived(f"{name}.test", message_id)
    assert without_trace(arrived) == content
    (record,) = deployment.settled(message_id).values()
    assert record.status is State.SENT


def test_fifty_recipients_across_ten_domains_in_one_transaction(deployment: Deployment) -> None:
    everyone = [f"user{number}@fifty{number % 10}.test" for number in range(50)]
    message_id = deployment.send(everyone, CONTENTS["plain"])
    settled = deployment.settled(message_id)
    assert len(settled) == 10
    assert all(record.status is State.SENT for record in settled.values())
    for number in range(10):
        arrived = deployment.inbox(f"fifty{number}.test")
        assert [without_trace(content) for content in arrived] == [CONTENTS["plain"]] * 5


def test_a_rejected_recipient_is_reported_to_the_sender(deployment: Deployment) -> None:
    message_id = deployment.send(["bob@reject.test"], b"Subject: please reject\r\n\r\nHello.\r\n")
    (record,) = deployment.settled(message_id).values()
    reply = record.recipients["bob@reject.test"].reply
    assert reply is not None
    report = email.message_from_bytes(deployment.arrived("sender.test", message_id))
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    _, _, _, per_message, per_recipient, headers = report.walk()
    assert per_message["Reporting-MTA"] == "dns; relay.localhost"
    assert per_recipient["Final-Recipient"] == "rfc822; bob@reject.test"
    assert per_recipient["Action"] == "failed"
    assert per_recipient["Status"] == str(reply.status) == "5.1.1"
    assert per_recipient["Diagnostic-Code"] == f"smtp; {reply}"
    assert "please reject" in headers.as_string()


def test_a_deferring_destination_takes_the_third_attempt(deployment: Deployment) -> None:
    message_id = deployment.send(["bob@defer.test"], b"Subject: third time\r\n\r\nHello.\r\n")
    (record,) = deployment.settled(message_id).values()
    assert record.status is State.SENT
    assert [attempt.reply and attempt.reply.code for attempt in record.attempts] == [451, 451, 250]


@pytest.mark.parametrize(
    ("domain", "status", "reason"),
    [("nullmx.test", "5.1.10", Reason.NULL_MX), ("nosuch.test", "5.1.2", Reason.NO_SUCH_DOMAIN)],
)
def test_dns_can_fail_a_destination_at_once(
    deployment: Deployment, domain: str, status: str, reason: Reason
) -> None:
    message_id = deployment.send([f"bob@{domain}"], CONTENTS["plain"])
    (record,) = deployment.settled(message_id).values()
    known = record.recipients[f"bob@{domain}"]
    assert (known.state, known.reason) == (State.FAILED, reason)
    assert known.reply is not None
    assert str(known.reply.status) == status
    assert deployment.arrived("sender.test", message_id)


def test_a_destination_that_is_down_is_deferred_with_its_next_attempt(deployment: Deployment) -> None:
    message_id = deployment.send(["bob@down.test"], CONTENTS["plain"])

    def deferred() -> bool:
        records = deployment.deliveries(message_id).values()
        return any(record.status is State.DEFERRED for record in records)

    eventually(deferred, what="a deferral")
    (record,) = deployment.deliveries(message_id).values()
    assert record.next_attempt_at is not None
    assert record.reason is Reason.CONNECTION_FAILED


def test_a_null_reverse_path_gets_no_report(deployment: Deployment) -> None:
    message_id = deployment.send(["bob@reject.test"], b"Subject: from nobody\r\n\r\nHello.\r\n", sender="")
    (record,) = deployment.settled(message_id).values()
    assert record.status is State.FAILED
    assert record.reports == {}


def test_one_message_three_outcomes_and_nothing_twice(deployment: Deployment) -> None:
    content = b"Subject: three ways\r\nX-Test: three-ways\r\n\r\nHello.\r\n"
    message_id = deployment.send(["a@three.test", "b@reject.test", "c@defer.test"], content)
    settled = deployment.settled(message_id)
    assert {domain: record.status for domain, record in settled.items()} == {
        "three.test": State.SENT,
        "reject.test": State.FAILED,
        "defer.test": State.SENT,
    }
    for domain in ("three.test", "defer.test"):
        copies = [arrived for arrived in deployment.inbox(domain) if message_id.encode() in arrived]
        assert len(copies) == 1
    reports = [arrived for arrived in deployment.inbox("sender.test") if message_id.encode() in arrived]
    assert len(reports) == 1


def test_the_raw_object_goes_when_its_message_is_settled(deployment: Deployment) -> None:
    message_id = deployment.send(["a@gone.test", "b@reject.test"], CONTENTS["plain"])
    deployment.settled(message_id)
    eventually(lambda: message_id not in deployment.raw_objects(), what="the removal of the raw object")


def test_the_content_of_a_message_that_failed_is_kept_where_policy_says_so(deployment: Deployment) -> None:
    sent = deployment.send(["a@kept.test", "b@kept.test"], CONTENTS["plain"])
    failed = deployment.send(["a@kept.test", "b@reject.test"], CONTENTS["plain"])
    bucket = deployment.running_stack.outputs["SpoolBucket"]

    def kept() -> set[str]:
        answer = deployment.s3.list_objects_v2(Bucket=bucket, Prefix="kept/1/messages/")
        return {item["Key"].rpartition("/")[2] for item in answer.get("Contents", [])}

    eventually(
        lambda: {sent, failed}.isdisjoint(deployment.raw_objects()), what="the removal of both raw objects"
    )
    assert {sent, failed} & kept() == {failed}
    content = deployment.s3.get_object(Bucket=bucket, Key=f"kept/1/messages/{failed}")["Body"].read()
    assert content == CONTENTS["plain"]


def test_every_log_line_about_a_message_names_it_and_none_shows_its_content(deployment: Deployment) -> None:
    secret = "the words of this message are nobody's business"
    message_id = deployment.send(["bob@logged.test"], f"Subject: {secret}\r\n\r\n{secret}\r\n".encode())
    deployment.settled(message_id)

    def attempt_line() -> dict[str, object] | None:
        return next(
            (
                line
                for line in deployment.log_lines()
                if line.get("message_id") == message_id and line["message"] == "attempt ended"
            ),
            None,
        )

    line = eventually(attempt_line, what="the log line of the attempt")
    assert line["function"] == "deliver"
    assert line["delivery"] == "delivery#logged.test"
    assert line["attempt"] == 1
    assert "trace_id" in line
    about = [line for line in deployment.log_lines() if line.get("message_id") == message_id]
    assert {"ingress", "deliver", "journal"} <= {str(line["function"]) for line in about}
    assert len({line["trace_id"] for line in about}) == 1
    logs = "".join(path.read_text(errors="replace") for path in deployment.state_dir.rglob("*.log"))
    assert secret not in logs


def test_the_audit_trail_tells_of_a_message_and_verifies(deployment: Deployment) -> None:
    message_id = deployment.send(["a@audited.test", "b@reject.test"], CONTENTS["plain"])
    deployment.settled(message_id)

    def told() -> bool:
        lines = [line for line in deployment.audit_lines() if line.get("message_id") == message_id]
        ends = {(str(line["type"]), line.get("recipient")) for line in lines}
        return ends >= {
            ("MessageReceived", None),
            ("DeliveryAttempt", None),
            ("DeliverySuccess", "a@audited.test"),
            ("DeliveryFailure", "b@reject.test"),
        }

    eventually(told, what="the audit trail")
    verified = subprocess.run(
        [sys.executable, "-m", "empath.control", "audit", "verify", "--json"],
        env={**os.environ, "EMPATH_STATE_DIR": str(deployment.state_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["lines"] >= 5
