"""Which deployment a command talks to: the local stack of a state directory, else AWS.

A `<state-dir>/stack.json` that a local stack left there names it. Without one, AWS is asked as its SDKs
usually are (AWS_PROFILE, AWS_REGION, ...), and the names come from the outputs of the deployed stacks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from empath.control.errors import ControlError

if TYPE_CHECKING:
    from empath.pipeline.operating import Operations
    from empath.pipeline.operator_log import OperatorLog
    from empath.ports import Audit, Control, DnsCache, Ledger, Suppressions, Users
    from empath.ports.gates import Gates
    from empath.ports.policies import Policies
    from empath.ports.queue import QueueName

DEFAULT_STATE_DIR = Path(".empath")
STORAGE_STACK = "EmpathStorage"
PIPELINE_STACK = "EmpathPipeline"
STACKS = (STORAGE_STACK, PIPELINE_STACK)


@dataclass(frozen=True, slots=True)
class DnsPorts:
    """What a command about DNS needs of a deployment."""

    control: Control
    cache: DnsCache


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment: the outputs of its stacks, and how to reach it."""

    description: str
    outputs: Mapping[str, str]
    client_arguments: Mapping[str, str] = field(default_factory=dict)
    """For every AWS client: empty where the environment says it all."""
    smtp: str | None = None
    """`host:port` of the ingress, where it is known."""
    nameservers: tuple[str, ...] = ()
    """What the functions ask, where it is known; empty for the system's."""

    def output(self, name: str) -> str:
        """Raises ControlError when the deployed stacks have no such output."""
        try:
            return self.outputs[name]
        except KeyError:
            raise ControlError(
                f"{self.description} has no output {name}", "deploy this version of the stacks"
            ) from None

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[Ledger]:
        """Raises ControlError or LedgerTrouble."""
        from empath.aws.ledger import DynamoLedger
        from empath.aws.session import AwsSession

        table = self.output("DeliveriesTable")
        async with AwsSession(None, **self.client_arguments) as session:
            yield DynamoLedger(await session.dynamodb(), table)

    @asynccontextmanager
    async def operations(self) -> AsyncIterator[Operations]:
        """What the caller may do to deliveries. Raises ControlError, LedgerTrouble or ControlTrouble."""
        from empath.aws.identity import caller_identity
        from empath.aws.ledger import DynamoLedger
        from empath.aws.queue import SqsJobQueue
        from empath.aws.session import AwsSession
        from empath.pipeline.operating import Operations
        from empath.system import SystemClock, UlidSource

        table = self.output("DeliveriesTable")
        urls = {queue: url for (queue, is_dead), url in self.queue_urls().items() if not is_dead}
        async with AwsSession(None, **self.client_arguments) as session:
            yield Operations(
                queue=SqsJobQueue(await session.sqs(), urls),
                ledger=DynamoLedger(await session.dynamodb(), table),
                clock=SystemClock(),
                ids=UlidSource(),
                operator=await caller_identity(await session.sts()),
            )

    @asynccontextmanager
    async def operator_log(self) -> AsyncIterator[OperatorLog]:
        """Where what the caller changes is told. Raises ControlError or ControlTrouble."""
        from empath.aws.identity import caller_identity
        from empath.aws.session import AwsSession
        from empath.domain.redaction import Redaction
        from empath.pipeline.operator_log import OperatorLog
        from empath.system import SystemClock, UlidSource

        redaction = Redaction(frozenset(self.outputs.get("AuditRedact", "").split(",")))
        async with AwsSession(None, **self.client_arguments) as session:
            operator = await caller_identity(await session.sts())
            if "AuditBucket" not in self.outputs:
                yield OperatorLog(None, SystemClock(), UlidSource(), operator, redaction)
                return
            async with self.audit() as audit:
                yield OperatorLog(audit, SystemClock(), UlidSource(), operator, redaction)

    @asynccontextmanager
    async def users(self) -> AsyncIterator[Users]:
        """Raises ControlError or ControlTrouble."""
        from empath.aws.session import AwsSession
        from empath.aws.users import DynamoUsers
        from empath.system import SystemClock

        table = self.output("ControlTable")
        async with AwsSession(None, **self.client_arguments) as session:
            yield DynamoUsers(await session.dynamodb(), table, clock=SystemClock())

    @asynccontextmanager
    async def policies(self) -> AsyncIterator[Policies]:
        """Raises ControlError or ControlTrouble."""
        from empath.aws.policies import DynamoPolicies
        from empath.aws.session import AwsSession
        from empath.system import SystemClock

        table = self.output("ControlTable")
        async with AwsSession(None, **self.client_arguments) as session:
            yield DynamoPolicies(await session.dynamodb(), table, clock=SystemClock())

    @asynccontextmanager
    async def gates(self) -> AsyncIterator[Gates]:
        """Raises ControlError or ControlTrouble."""
        from empath.aws.gates import DynamoGates
        from empath.aws.session import AwsSession
        from empath.system import SystemClock

        table = self.output("ControlTable")
        async with AwsSession(None, **self.client_arguments) as session:
            yield DynamoGates(await session.dynamodb(), table, clock=SystemClock())

    @asynccontextmanager
    async def dns(self) -> AsyncIterator[DnsPorts]:
        """Raises ControlError or ControlTrouble."""
        from empath.aws.control import DynamoControl
        from empath.aws.dns_cache import DynamoDnsCache
        from empath.aws.session import AwsSession
        from empath.observe.metrics import EmfMetrics
        from empath.system import SystemClock

        table, clock, metrics = self.output("ControlTable"), SystemClock(), EmfMetrics("empathctl")
        async with AwsSession(None, **self.client_arguments) as session:
            client = await session.dynamodb()
            yield DnsPorts(
                DynamoControl(client, table, clock=clock, metrics=metrics),
                DynamoDnsCache(client, table, clock=clock),
            )

    @asynccontextmanager
    async def audit(self) -> AsyncIterator[Audit]:
        """Raises ControlError or AuditTrouble."""
        from empath.aws.audit import S3Audit
        from empath.aws.session import AwsSession

        bucket, table = self.output("AuditBucket"), self.output("ControlTable")
        async with AwsSession(None, **self.client_arguments) as session:
            yield S3Audit(await session.s3(), bucket, await session.dynamodb(), table)

    @asynccontextmanager
    async def suppressions(self) -> AsyncIterator[Suppressions]:
        """Raises ControlError or ControlTrouble."""
        from empath.aws.session import AwsSession
        from empath.aws.suppressions import DynamoSuppressions

        table = self.output("ControlTable")
        async with AwsSession(None, **self.client_arguments) as session:
            yield DynamoSuppressions(await session.dynamodb(), table)

    def queue_urls(self) -> dict[tuple[QueueName, bool], str]:
        """URLs by queue and whether it is the dead-letter one; those that the outputs have."""
        from empath.ports.queue import QueueName

        return {
            (queue, is_dead): self.outputs[name]
            for queue in QueueName
            for is_dead in (False, True)
            if (name := f"{queue.in_outputs}{'DeadLetter' if is_dead else ''}QueueUrl") in self.outputs
        }


def find_target(state_dir: Path) -> Target:
    """Raises ControlError when nothing can be found, saying where was looked."""
    return find_local(state_dir) or _find_aws(state_dir)


def find_local(state_dir: Path) -> Target | None:
    """The local stack of `state_dir`; None when there was never one, ControlError when it runs no more."""
    from empath.local.errors import LocalStackError
    from empath.local.state import read_state, state_file

    try:
        running = read_state(state_dir)
    except LocalStackError as error:
        raise ControlError(error.problem, error.remedy) from None
    if running is None:
        return None
    if not running.is_alive():
        raise ControlError(
            f"the local stack of {state_dir} was killed and runs no more",
            f"start it with `make run`, or remove {state_file(state_dir)} to talk to AWS",
        )
    return Target(
        description=f"the local stack of {state_dir}",
        outputs=running.outputs,
        client_arguments={
            "endpoint_url": running.endpoint_url,
            "region_name": running.region,
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",  # what every emulator takes
        },
        smtp=running.smtp,
        nameservers=(running.dns,),
    )


def _find_aws(state_dir: Path) -> Target:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    from empath.aws.session import region_of_environment

    nothing_local = f"no local stack runs in {state_dir}"
    try:
        session = boto3.session.Session(**region_of_environment())  # type: ignore[arg-type]
        if session.region_name is None:
            raise ControlError(
                f"{nothing_local}, and no AWS region is set",
                "start the local stack with `make run`, or set AWS_REGION (and AWS_PROFILE)",
            )
        client = session.client("cloudformation")
        outputs: dict[str, str] = {}
        missing = []
        for stack in STACKS:
            try:
                (described,) = client.describe_stacks(StackName=stack)["Stacks"]
            except ClientError as error:
                if "does not exist" not in str(error):
                    raise
                missing.append(stack)
                continue
            outputs |= {entry["OutputKey"]: entry["OutputValue"] for entry in described.get("Outputs", [])}
    except (BotoCoreError, ClientError, ValueError) as error:
        raise ControlError(
            f"{nothing_local}, and AWS does not answer: {error}",
            "start the local stack with `make run`, or check AWS_PROFILE and your credentials",
        ) from error
    if STORAGE_STACK in missing:
        raise ControlError(
            f"{nothing_local}, and AWS has no stack {STORAGE_STACK} in {session.region_name}",
            "start the local stack with `make run`, or deploy with `cdk deploy --all`",
        )
    return Target(
        description=f"AWS in {session.region_name}", outputs=outputs, client_arguments=region_of_environment()
    )
