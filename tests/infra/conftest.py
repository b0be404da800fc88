"""Templates, synthesised once per run and without building the layer of dependencies."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

# CDK's library speaks to Node; the environment's own comes before whatever else the machine has.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"

import aws_cdk as cdk  # noqa: E402

from infra.app import build  # noqa: E402
from infra.settings import Settings  # noqa: E402

FLAGS = {
    key: value
    for key, value in json.loads((ROOT / "cdk.json").read_text())["context"].items()
    if key.startswith("@")
}


EXISTING_VPC: dict[str, Any] = {
    "vpc_id": "vpc-0123456789abcdef0",
    "vpc_cidr": "10.1.0.0/16, 10.2.0.0/16",
    "vpc_zones": "eu-central-1a, eu-central-1b",
    "vpc_private_subnets": "subnet-0123456789abcdef0, subnet-0123456789abcdef1",
}
TLS_SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mail/tls-AbCdEf"


class Synthesised:
    """The templates of the stacks, by resource type."""

    def __init__(self, settings: Settings, outdir: Path) -> None:
        app = cdk.App(outdir=str(outdir), context={**FLAGS, "aws:cdk:bundling-stacks": []})
        build(app, settings)
        app.synth()
        self.settings = settings
        names = ("EmpathStorage", "EmpathPipeline", "EmpathIngress")
        self.files = [
            file for name in names if (file := outdir / f"{name}.template.json").exists()
        ]  # one left out has none
        self.storage, self.pipeline, *rest = (json.loads(file.read_text()) for file in self.files)
        self.ingress: dict[str, Any] = rest[0] if rest else {}
        self.assets = json.loads((outdir / "EmpathPipeline.assets.json").read_text())
        self.outdir = outdir

    def resources(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """Every resource of a type in storage and pipeline, by logical id."""
        return {
            name: resource
            for template in (self.storage, self.pipeline)
            for name, resource in template["Resources"].items()
            if resource["Type"] == kind
        }

    def properties(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """The properties of every resource of a type, by logical id."""
        return {name: resource["Properties"] for name, resource in self.resources(kind).items()}

    def of_ingress(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """The properties of every resource of a type in EmpathIngress, by logical id."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.ingress["Resources"].items()
            if resource["Type"] == kind
        }

    @property
    def task_policy(self) -> Mapping[str, Any]:
        """What the tasks of the ingress may do."""
        (task,) = self.of_ingress("AWS::ECS::TaskDefinition").values()
        role = {"Ref": task["TaskRoleArn"]["Fn::GetAtt"][0]}
        (policy,) = (
            policy for policy in self.of_ingress("AWS::IAM::Policy").values() if role in policy["Roles"]
        )
        document: Mapping[str, Any] = policy["PolicyDocument"]
        return document

    def function(self, name: str) -> Mapping[str, Any]:
        """The properties of a function."""
        return next(
            properties
            for properties in self.properties("AWS::Lambda::Function").values()
            if properties["Environment"]["Variables"]["EMPATH_FUNCTION"] == name
        )


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesised]:
    """As deployed to AWS with the settings of cdk.json."""
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    yield Synthesised(Settings.from_context(context), tmp_path_factory.mktemp("aws"))


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesised]:
    """As deployed to the local stack."""
    yield Synthesised(Settings.from_context({"profile": "local"}), tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="session")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesised]:
    """As deployed to AWS with tracing on."""
    yield Synthesised(Settings(tracing="on"), tmp_path_factory.mktemp("traced"))


@pytest.fixture(scope="session")
def submission(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesised]:
    """With an ingress for users everywhere: TLS, open to the internet, and as cheap as it gets."""
    settings = Settings(
        tls_secret=TLS_SECRET,
        ingress_scheme="internet-facing",
        client_networks="0.0.0.0/0",
        relay_networks="",
        relay_domains="example.com, .example.org",
        max_connections_per_client=1000,
        user_messages_per_hour=500,
        nat_gateways=0,
        architecture="x86_64",
    )
    yield Synthesised(settings, tmp_path_factory.mktemp("submission"))


@pytest.fixture(scope="session")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesised]:
    """With an ingress in a VPC that is there already."""
    yield Synthesised(Settings(**EXISTING_VPC), tmp_path_factory.mktemp("existing"))
