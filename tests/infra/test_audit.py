"""The audit trail's bucket and the event bus: kept, versioned, and open to the journal alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.settings import FUNCTIONS, Settings, SettingsError
from tests.infra.conftest import Synthesised


def trail(synthesised: Synthesised) -> list[dict[str, Any]]:
    return [
        dict(bucket)
        for name, bucket in synthesised.properties("AWS::S3::Bucket").items()
        if name.startswith("Audit")
    ]


def test_every_version_of_the_trail_is_kept_and_none_expires(aws: Synthesised) -> None:
    (bucket,) = trail(aws)
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert "LifecycleConfiguration" not in bucket
    assert "ObjectLockEnabled" not in bucket


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_a_deployment_can_lock_what_was_written(tmp_path: Path, mode: str) -> None:
    (bucket,) = trail(Synthesised(Settings(audit_lock_days=400, audit_lock_mode=mode), tmp_path))
    assert bucket["ObjectLockEnabled"] is True
    rule = bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert rule == {"Days": 400, "Mode": mode.upper()}


def test_without_an_audit_trail_there_is_no_bucket_and_nothing_is_allowed(tmp_path: Path) -> None:
    synthesised = Synthesised(Settings(audit="off", event_types=""), tmp_path)
    assert trail(synthesised) == []
    assert "EMPATH_AUDIT_BUCKET" not in synthesised.function("journal")["Environment"]["Variables"]
    assert "Audit" not in json.dumps(synthesised.pipeline)


def test_only_the_journal_is_told_of_trail_and_bus(aws: Synthesised) -> None:
    for name in FUNCTIONS:
        told = aws.function(name)["Environment"]["Variables"].keys()
        of_journal = {"EMPATH_AUDIT_BUCKET", "EMPATH_EVENT_BUS", "EMPATH_EVENT_TYPES", "EMPATH_REDACT"}
        assert (of_journal <= told) if name == "journal" else not (of_journal & told)


def test_what_is_told_and_what_is_left_out_are_settings(tmp_path: Path) -> None:
    synthesised = Synthesised(Settings(redact="recipient, client", event_types="sent,failed"), tmp_path)
    variables = synthesised.function("journal")["Environment"]["Variables"]
    assert variables["EMPATH_REDACT"] == "recipient,client"
    assert variables["EMPATH_EVENT_TYPES"] == "sent,failed"
    assert synthesised.storage["Outputs"]["AuditRedact"] == {"Value": "recipient,client"}


@pytest.mark.parametrize(
    ("setting", "value"), [("redact", "subject"), ("event_types", "bounced"), ("audit_lock_days", "-1")]
)
def test_a_word_that_is_not_known_is_refused_and_named(setting: str, value: str) -> None:
    with pytest.raises(SettingsError, match=setting):
        Settings.from_context({setting: value})
