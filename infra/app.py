"""The CDK app: reads the settings and names the stacks. No AWS call, no credentials."""

import sys

import aws_cdk as cdk

from infra.settings import Settings, SettingsError
from infra.stacks.ingress import Ingress
from infra.stacks.pipeline import Pipeline
from infra.stacks.storage import Storage


def build(app: cdk.App, settings: Settings) -> None:
    """Add the stacks to the app; the ingress only where it is to be a service."""
    storage = Storage(app, "EmpathStorage", settings)
    pipeline = Pipeline(app, "EmpathPipeline", settings, storage)
    if settings.ingress == "service":
        Ingress(app, "EmpathIngress", settings, storage)
    if settings.profile == "aws" and settings.hostname.endswith("example.com"):
        cdk.Annotations.of(pipeline).add_info_v2(
            "empath:hostname", "set 'hostname' in cdk.json to the name this relay greets other servers with"
        )


def main() -> None:
    """Synthesise into the directory that the CDK command line chose."""
    app = cdk.App()
    try:
        settings = Settings.from_context(app.node.get_all_context())
    except SettingsError as error:
        sys.exit(f"empath: {error}")
    build(app, settings)
    app.synth()


if __name__ == "__main__":
    main()
