"""Rules that others wrote: CloudFormation's own (cfn-lint) and AWS's advice (cdk-nag)."""

import json
from pathlib import Path

import aws_cdk as cdk
import cdk_nag
import cfnlint
import pytest

from infra.app import build
from infra.settings import Settings
from tests.infra.conftest import FLAGS, TLS_SECRET, Synthesised

LINT = cfnlint.ManualArgs(
    regions=["eu-central-1", "us-east-1"],
    # CDK orders a function after its role by hand, although the reference to the role does so already.
    ignore_checks=["W3005"],
)

# Findings that were weighed and stay, and why. A finding that is not listed fails; so does a stale entry.
ACCEPTED = {
    "AwsSolutions-S1": "access logs would cost more than the mail itself; CloudTrail can record data events",
    "AwsSolutions-SQS3": "journal-dead is itself the end of a line: the stream's on-failure destination",
    "AwsSolutions-IAM5[Resource::*]": "dynamodb:ListStreams and ecr:GetAuthorizationToken know no resource",
    "AwsSolutions-IAM5[Resource::Spool/*]": "names of stored messages are random",
    "AwsSolutions-IAM5[Resource::Audit/*]": "audit objects have names that nobody knows before",
    "AwsSolutions-L1": "the runtime is a setting and follows the wheels of the lock, not the calendar",
    "AwsSolutions-ECS2": "names and numbers; the ingress itself reads what is secret from Secrets Manager",
    "AwsSolutions-ECS4": "CPU and memory of the service are metrics without it, and the ingress has its own",
    "AwsSolutions-ELB2": "a network load balancer logs TLS listeners only, and TLS ends in the ingress",
    "AwsSolutions-VPC7": "nothing but the ingress is in this VPC, and it logs its clients itself",
}


@pytest.mark.parametrize("profile", ["aws", "local", "submission", "existing"])
def test_cfn_lint_finds_nothing(profile: str, request: pytest.FixtureRequest) -> None:
    synthesised: Synthesised = request.getfixturevalue(profile)
    for file in synthesised.files:
        found = cfnlint.lint_file(file, config=LINT)
        assert [str(match) for match in found] == []


OF_SES = "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:ses:*:<AWS::AccountId>:{}/*]"
BY_POLICY = "which of them mail goes by, and in which region, is what policies say"

SETTINGS: dict[str, tuple[Settings, dict[str, str]]] = {
    "by default": (Settings(), {}),
    "with routes": (
        Settings(ses="on", route_secrets=TLS_SECRET),
        {OF_SES.format("identity"): BY_POLICY, OF_SES.format("configuration-set"): BY_POLICY},
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_cdk_nag_finds_only_what_was_weighed(name: str, tmp_path: Path) -> None:
    settings, accepted = SETTINGS[name]
    app = cdk.App(outdir=str(tmp_path), context={**FLAGS, "aws:cdk:bundling-stacks": []})
    build(app, settings)
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
    with pytest.raises(Exception, match="ValidationFailed"):
        app.synth()
    report = json.loads((tmp_path / "validation-report.json").read_text())
    found = {
        _without_export_names(violation["ruleName"])
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        if violation["ruleName"].startswith("AwsSolutions")
    }
    assert found == {*ACCEPTED, *accepted}


def _without_export_names(rule: str) -> str:
    if "AuditTrail" in rule:
        return "AwsSolutions-IAM5[Resource::Audit/*]"
    return "AwsSolutions-IAM5[Resource::Spool/*]" if "SpoolMessages" in rule else rule
