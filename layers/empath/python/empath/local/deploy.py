"""Deploying the real stacks onto a local endpoint with the CDK command line, and reading their outputs.

The endpoint is the embedded AWS or one that the user named (LocalStack, say); what differs is only the
platform for which the third-party layer is built. Nothing is deployed when nothing that decides the templates
and assets has changed and both stacks are still there.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

import boto3
import localstack_client.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from empath.local.checkout import checkout_root
from empath.local.embedded_aws import REGION, tail
from empath.local.errors import LocalStackError
from empath.ports.queue import QueueName

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

STACKS = ("EmpathStorage", "EmpathPipeline")
TOOLKIT = "CDKToolkit"
ACCOUNT = "000000000000"
QUEUES = tuple(QueueName)
FUNCTIONS = ("resolve", "deliver", "retry", "dsn", "journal")

DEPLOY_WITHIN = 300.0
_ONE_TRY = Config(connect_timeout=5, retries={"total_max_attempts": 1})

# What decides the templates and the assets, below the checkout.
_INPUTS = ("cdk.json", "infra/package-lock.json", "layers/dependencies/lambda.lock")
_INPUT_TREES = ("infra", "functions", "layers/empath/python/empath")
_NOT_DEPLOYED = ("layers/empath/python/empath/control", "layers/empath/python/empath/local",
                 "layers/empath/python/empath/testing", "layers/empath/python/empath/ingress",
                 "functions/ingress", "infra/node_modules")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Deployment:
    """What to deploy where."""

    endpoint_url: str
    state_dir: Path
    # `local`: the functions run with this machine's interpreter. `lambda`: in images like Lambda's.
    bundling: Literal["local", "lambda"] = "local"
    # Settings of infra/settings.py, such as hostname and nameservers.
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def log_file(self) -> Path:
        """The words of the CDK command line."""
        return self.state_dir.resolve() / "deploy.log"


@dataclass(frozen=True, slots=True)
class StackOutputs:
    """The names of everything that clients of the relay need."""

    spool_bucket: str
    deliveries_table: str
    control_table: str
    # By the names in QUEUES; `dead_letter_queue_urls` also has `journal`.
    queue_urls: Mapping[QueueName, str]
    dead_letter_queue_urls: Mapping[str, str]
    # By the names in FUNCTIONS.
    functions: Mapping[str, str]
    # All of them, by the names that CloudFormation gives them.
    named: Mapping[str, str]

    @classmethod
    def of(cls, outputs: Mapping[str, str]) -> Self:
        """From the outputs of both stacks. Raises KeyError for one that is missing."""
        return cls(
            spool_bucket=outputs["SpoolBucket"],
            deliveries_table=outputs["DeliveriesTable"],
            control_table=outputs["ControlTable"],
            queue_urls={name: outputs[f"{name.in_outputs}QueueUrl"] for name in QUEUES},
            dead_letter_queue_urls={
                "journal": outputs["JournalDeadLetterQueueUrl"],
                **{name: outputs[f"{name.in_outputs}DeadLetterQueueUrl"] for name in QUEUES},
            },
            functions={name: outputs[f"{name.capitalize()}Function"] for name in FUNCTIONS},
            named=dict(outputs),
        )

    def environment(self) -> dict[str, str]:
        """The EMPATH_ variables for a process outside of Lambda, such as the ingress."""
        return {
            "EMPATH_SPOOL_BUCKET": self.spool_bucket,
            "EMPATH_DELIVERIES_TABLE": self.deliveries_table,
            "EMPATH_CONTROL_TABLE": self.control_table,
            **{name.variable: url for name, url in self.queue_urls.items()},
        }


def credentials(endpoint_url: str) -> dict[str, str]:
    """The environment with which any AWS client reaches the local endpoint and nothing else."""
    return {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


async def deploy(deployment: Deployment) -> StackOutputs:
    """Bring both stacks to the state of this checkout and return their outputs.

    Raises LocalStackError with the end of the log when the CDK command line fails.
    """
    root = checkout_root()
    fingerprint = _fingerprint(root, deployment)
    record = deployment.state_dir.resolve() / "deployed"
    stacks = await asyncio.to_thread(_stacks, deployment.endpoint_url)
    if _read(record) != fingerprint or not set(STACKS) <= stacks.keys():
        deployment.log_file.parent.mkdir(parents=True, exist_ok=True)
        deployment.log_file.write_bytes(b"")
        record.unlink(missing_ok=True)
        if TOOLKIT not in stacks:
            await _cdk(root, deployment, "bootstrap", f"aws://{ACCOUNT}/{REGION}")
        await _cdk(root, deployment, "deploy", "--all", "--require-approval", "never", "--method", "direct",
                   *_context(deployment))  # fmt: skip
        stacks = await asyncio.to_thread(_stacks, deployment.endpoint_url)
        record.write_text(fingerprint)
    outputs = {key: value for name in STACKS for key, value in stacks.get(name, {}).items()}
    try:
        return StackOutputs.of(outputs)
    except KeyError as missing:
        raise LocalStackError(
            f"the deployed stacks have no output {missing}", f"see {deployment.log_file}"
        ) from None


def _context(deployment: Deployment) -> Iterator[str]:
    settings = {"profile": "local", "bundling": deployment.bundling, **deployment.settings}
    for key, value in settings.items():
        yield from ("--context", f"{key}={value}")


async def _cdk(root: Path, deployment: Deployment, *arguments: str) -> None:
    """Run the CDK command line, its words going to the log."""
    executables = root / ".venv/bin"
    cdk = executables / "cdk"
    if not cdk.exists():
        raise LocalStackError(f"the CDK command line is not installed ({cdk} is missing)", "run: make setup")
    state = deployment.state_dir.resolve()
    # The user's proxies, certificates and package index count; the user's AWS account must not.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    bypass = ",".join(filter(None, (os.environ.get("NO_PROXY", ""), "127.0.0.1,localhost")))
    environment = {
        **kept,
        "NO_PROXY": bypass,
        "no_proxy": bypass,
        **credentials(_by_address(deployment.endpoint_url)),
        "PATH": f"{executables}{os.pathsep}{os.environ.get('PATH', '')}",
        "CDK_HOME": str(state / "cdk-home"),
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        "CI": "true",
        "NO_COLOR": "1",
        "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
    }
    with deployment.log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            str(cdk), *arguments,
            "--output", str(state / "cdk.out"), "--no-notices", "--no-version-reporting",
            cwd=root, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        async with asyncio.timeout(DEPLOY_WITHIN):
            code = await process.wait()
    except TimeoutError:
        raise LocalStackError(
            f"cdk {arguments[0]} is not done after {DEPLOY_WITHIN:.0f} s:\n{tail(deployment.log_file)}",
            f"see {deployment.log_file}",
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if code:
        raise LocalStackError(
            f"cdk {arguments[0]} failed (exit code {code}):\n{tail(deployment.log_file)}\n",
            f"the whole log is {deployment.log_file}; to begin anew, remove {state / 'aws'}"
            " (with the mail that is queued there)",
        )


def _by_address(endpoint_url: str) -> str:
    # The Node SDK would put the bucket in front of `localhost`; before an address it cannot.
    parts = urlsplit(endpoint_url)
    if parts.hostname != "localhost":
        return endpoint_url
    return parts._replace(netloc=f"127.0.0.1:{parts.port or 4566}").geturl()


def _cloudformation(endpoint_url: str) -> "CloudFormationClient":
    if os.environ.get("AWS_ENDPOINT_URL") == endpoint_url:
        # The user's endpoint, through the client that knows LocalStack's ways.
        session = localstack_client.session.Session("test", "test", None, region_name=REGION)
        client: CloudFormationClient = session.client("cloudformation", config=_ONE_TRY)
        return client
    return boto3.client(
        "cloudformation",
        endpoint_url=endpoint_url,
        region_name=REGION,
        config=_ONE_TRY,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
    )


def _stacks(endpoint_url: str) -> dict[str, dict[str, str]]:
    """The outputs of every stack that is whole, by name of the stack."""
    client = _cloudformation(endpoint_url)
    try:
        found = client.describe_stacks()["Stacks"]
    except (BotoCoreError, ClientError) as error:
        raise LocalStackError(
            f"no AWS answers at {endpoint_url} ({error})", "check AWS_ENDPOINT_URL"
        ) from None
    return {
        stack["StackName"]: {out["OutputKey"]: out["OutputValue"] for out in stack.get("Outputs", [])}
        for stack in found
        if stack["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    }


def _fingerprint(root: Path, deployment: Deployment) -> str:
    digest = hashlib.sha256()
    target = [deployment.endpoint_url, deployment.bundling, sorted(deployment.settings.items()), sys.version]
    digest.update(json.dumps(target).encode())
    for path in sorted(_inputs(root)):
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _inputs(root: Path) -> Iterator[Path]:
    yield from (root / name for name in _INPUTS)
    excluded = tuple(root / name for name in _NOT_DEPLOYED)
    for tree in _INPUT_TREES:
        for path in (root / tree).rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and not any(path.is_relative_to(x) for x in excluded):
                yield path


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
