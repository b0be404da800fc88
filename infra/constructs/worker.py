"""A door: one Lambda function with its own role, log group and event source mappings."""

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra import packaging
from infra.constructs.log_group import log_group
from infra.settings import FunctionName, Settings

SQS_BATCH = 10
STREAM_BATCH = 500
"""Changes that become one object of the audit trail where there are so many: an object costs as much as a
message's own. Lambda ends a batch at 6 MB, whatever this says."""

_ARCHITECTURE = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}


class Worker(Construct):
    """A function and what it may do: nothing on AWS but what `may`, `consumes` and `follows` were told."""

    def __init__(
        self,
        scope: Construct,
        name: FunctionName,
        settings: Settings,
        *,
        layers: Sequence[lambda_.ILayerVersion],
        environment: Mapping[str, str],
        loops: bool = False,
    ) -> None:
        super().__init__(scope, name.capitalize())
        logs = log_group(self, settings)
        # A role of its own: AWS's managed one may write to every log group of the account.
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        logs.grant_write(self.role)
        tracing = settings.tracing == "on"
        self.function = lambda_.Function(
            self,
            "Function",
            description=f"Empath: the {name} stage",
            runtime=lambda_.Runtime(f"python{settings.python_version}", lambda_.RuntimeFamily.PYTHON),
            architecture=_ARCHITECTURE[settings.architecture],
            handler="handler.handler",
            code=packaging.function_code(name),
            layers=list(layers),
            role=self.role,
            timeout=cdk.Duration.seconds(settings.timeout(name)),
            memory_size=settings.memory_of(name),
            tracing=lambda_.Tracing.ACTIVE if tracing else lambda_.Tracing.DISABLED,
            log_group=logs,
            # Lambda stops what looks like a loop after about 16 rounds through a queue. A deferred delivery
            # goes round up to 25 times by design, bounded by its policy; elsewhere a loop is an error.
            recursive_loop=lambda_.RecursiveLoop.ALLOW if loops else None,
            environment={**environment, "EMPATH_FUNCTION": name},
        )

    def may(self, actions: Sequence[str], *resources: str, keys: str | None = None) -> None:
        """Allow exactly these actions on exactly these resources; with `keys` on items with such keys."""
        self.role.add_to_policy(
            iam.PolicyStatement(
                actions=list(actions),
                resources=list(resources),
                conditions={"ForAllValues:StringLike": {"dynamodb:LeadingKeys": [keys]}} if keys else None,
            )
        )

    def consumes(self, queue: sqs.IQueue, *, concurrency: int) -> None:
        """Read jobs from a queue in batches; jobs that the function reports as failed come back alone."""
        self.may(["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], queue.queue_arn)
        lambda_.EventSourceMapping(
            self,
            f"From-{queue.node.id}",
            target=self.function,
            event_source_arn=queue.queue_arn,
            batch_size=SQS_BATCH,
            max_batching_window=cdk.Duration.seconds(0),
            max_concurrency=concurrency,
            report_batch_item_failures=True,
        )

    def follows(self, table: dynamodb.Table, *, dead_letters: sqs.IQueue, retries: int, gather: int) -> None:
        """Read the table's stream from its beginning, `gather` seconds of it at a time where it is quiet;
        what cannot be processed is named on `dead_letters`."""
        stream = table.table_stream_arn
        if stream is None:
            raise ValueError(f"table {table.node.path} has no stream to follow")
        self.may(["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"], stream)
        # ListStreams knows no resource; creating the mapping fails without it.
        self.may(["dynamodb:ListStreams"], "*")
        changes = {"eventName": lambda_.FilterRule.or_("INSERT", "MODIFY")}
        lambda_.EventSourceMapping(
            self,
            f"From-{table.node.id}",
            target=self.function,
            event_source_arn=stream,
            starting_position=lambda_.StartingPosition.TRIM_HORIZON,
            batch_size=STREAM_BATCH,
            max_batching_window=cdk.Duration.seconds(gather),
            bisect_batch_on_error=True,
            retry_attempts=retries,
            on_failure=sources.SqsDlq(dead_letters),
            report_batch_item_failures=True,
            # Items that TTL removes are the end of the record, not an event in the life of a message.
            filters=[lambda_.FilterCriteria.filter(changes)],
        )
