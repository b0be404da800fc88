"""The session of docs/STORY.md: what a mail to nobody leaves behind, by the commands that a user has."""

from __future__ import annotations

import email
import json
from typing import Any

import pytest

from tests.e2e.deployment import Deployment, eventually

pytestmark = pytest.mark.e2e

SENDER = "alice@story.test"


def test_report_audit_lines_event_and_suppression_of_a_mail_to_nobody(deployment: Deployment) -> None:
    nobody = "no-such-carol@reject.test"
    events: list[dict[str, Any]] = []

    def said(*arguments: str) -> Any:
        done = deployment.empathctl(*arguments, "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def event_about(message_id: str) -> dict[str, Any] | None:
        done = deployment.empathctl("local", "events", "--json")
        assert done.returncode == 0, done.stderr
        events.extend(json.loads(line)["detail"] for line in done.stdout.splitlines())
        return next((event for event in events if event["message_id"] == message_id), None)

    def lines_of(message_id: str) -> set[tuple[str, str | None]] | None:
        shown = said("audit", "show", message_id)
        ends = {(line["type"], line.get("recipient")) for line in shown["lines"]} if shown else set()
        return ends if ("DeliveryFailure", nobody) in ends else None

    deployment.empathctl("suppress", "remove", nobody)
    first = deployment.send([nobody], b"Subject: to nobody\r\n\r\nHello.\r\n", sender=SENDER)
    report = email.message_from_bytes(deployment.arrived("story.test", first))
    assert report["Auto-Submitted"] == "auto-replied"
    assert f"Final-Recipient: rfc822; {nobody}" in report.as_string()
    assert eventually(lambda: lines_of(first), what="the audit lines") == {
        ("MessageReceived", None),
        ("DeliveryAttempt", None),
        ("DeliveryFailure", nobody),
    }
    event = eventually(lambda: event_about(first), what="the event")
    assert (event["type"], event["recipient"], event["trouble"]) == ("failed", nobody, "mailbox")
    (entry,) = (known for known in said("suppress", "list")["suppressions"] if known["message_id"] == first)
    assert entry["address"] == nobody

    second = deployment.send([nobody], b"Subject: to nobody again\r\n\r\nHello.\r\n", sender=SENDER)
    event = eventually(lambda: event_about(second), what="the second event")
    assert event["reason"] == "suppressed"
    assert "is on the suppression list" in event["reply"]
    assert deployment.empathctl("suppress", "remove", nobody).returncode == 0
    assert deployment.empathctl("audit", "verify").returncode == 0
