"""What routes other than MX are allowed: nothing, unless the deployment's settings name it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from infra.settings import Settings, SettingsError
from tests.infra.conftest import Synthesised

ACCOUNT = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"
SECRETS = [f"{ACCOUNT}mail/relay-AbCdEf", f"{ACCOUNT}mail/hook-GhIjKl"]


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesised]:
    settings = Settings(route_secrets=", ".join(SECRETS), ses="on", ingress="none")
    yield Synthesised(settings, tmp_path_factory.mktemp("routed"))


def statements(stacks: Synthesised, service: str) -> dict[str, list[Any]]:
    """By role: the statements that are about a service."""
    found: dict[str, list[Any]] = {}
    for policy in stacks.resources("AWS::IAM::Policy").values():
        properties = policy["Properties"]
        for statement in properties["PolicyDocument"]["Statement"]:
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                if action.startswith(f"{service}:"):
                    found.setdefault(json.dumps(properties["Roles"]), []).append(statement)
                    break
    return found


def test_only_deliver_opens_just_these_secrets(routed: Synthesised) -> None:
    [(role, [statement])] = statements(routed, "secretsmanager").items()
    assert "Deliver" in role
    assert statement["Action"] == "secretsmanager:GetSecretValue"
    assert sorted(statement["Resource"]) == sorted(SECRETS)


def test_only_deliver_sends_by_ses(routed: Synthesised) -> None:
    [(role, [statement])] = statements(routed, "ses").items()
    assert "Deliver" in role
    assert set(statement["Action"]) == {"ses:SendEmail", "ses:SendRawEmail"}
    assert "*" not in statement["Resource"]


def test_by_default_nobody_does(aws: Synthesised) -> None:
    assert statements(aws, "ses") == {}
    assert statements(aws, "secretsmanager") == {}


@pytest.mark.parametrize("value", ["mail/relay", f"{SECRETS[0]}, *", "arn:aws:s3:::bucket", f"{ACCOUNT}*"])
def test_a_secret_is_an_arn_in_full(value: str) -> None:
    with pytest.raises(SettingsError, match="route_secrets"):
        Settings.from_context({"route_secrets": value})
