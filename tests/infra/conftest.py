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


class Synthesised:
    """The templates of both stacks, by resource type."""

    def __init__(self, settings: Settings, outdir: Path) -> None:
        app = cdk.App(outdir=str(outdir), context={**FLAGS, "aws:cdk:bundling-stacks": []})
        build(app, settings)
        app.synth()
        self.settings = settings
        self.files = [outdir / f"{stack}.template.json" for stack in ("EmpathStorage", "EmpathPipeline")]
        self.storage, self.pipeline = (json.loads(file.read_text()) for file in self.files)
        self.assets = json.loads((outdir / "EmpathPipeline.assets.json").read_text())
        self.outdir = outdir

    def resources(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """Every resource of a type in both stacks, by logical id."""
        return {
            name: resource
            for template in (self.storage, self.pipeline)
            for name, resource in template["Resources"].items()
            if resource["Type"] == kind
        }

    def properties(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """The properties of every resource of a type, by logical id."""
        return {name: resource["Properties"] for name, resource in self.resources(kind).items()}

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
