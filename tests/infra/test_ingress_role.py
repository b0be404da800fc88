"""The ingress's adapters with the role that the template gives its tasks, on an AWS that evaluates IAM.

The local deploy leaves the stack out, so nothing else would miss a permission. Conditions on keys are not
evaluated here: the embedded AWS does not tell IAM which items a request is about.
"""

import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from empath.aws.queue import SqsJobQueue
from empath.aws.quotas import DynamoQuotas
from empath.aws.secrets import SecretsManagerSecrets
from empath.aws.session import AwsSession
from empath.aws.spool import PART_SIZE, S3Spool
from empath.aws.users import DynamoUsers
from empath.local.embedded_aws import REGION, EmbeddedAws, Options, embedded_aws
from empath.ports.queue import OutgoingJob, QueueName
from empath.system import SystemClock
from empath.testing.metrics import CountedMetrics
from tests.infra.conftest import TLS_SECRET, Synthesised


@dataclass(frozen=True, slots=True)
class Account:
    """What the ingress uses, and the credentials of a task."""

    queue_url: str
    secret: str
    credentials: dict[str, str]


@pytest.fixture
async def account(submission: Synthesised, tmp_path: Path) -> AsyncIterator[Account]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    async with embedded_aws(Options(tmp_path, port, persist=False)) as aws:
        yield _account(aws, submission)


async def test_a_task_may_do_all_that_accepting_needs(account: Account) -> None:
    clock = SystemClock()
    async with AwsSession(None, **account.credentials) as aws:
        spool = S3Spool(await aws.s3(), "spool")
        assert await spool.put("messages/small", _content(1)) == 1
        assert await spool.put("messages/small", _content(1)) == 1
        assert await spool.put("messages/large", _content(PART_SIZE, 1)) == PART_SIZE + 1

        queue = SqsJobQueue(await aws.sqs(), {QueueName.ACCEPTED: account.queue_url})
        await queue.send(QueueName.ACCEPTED, [OutgoingJob("one")])
        await queue.send(QueueName.ACCEPTED, [OutgoingJob("two"), OutgoingJob("three")])
        await queue.probe(QueueName.ACCEPTED)

        dynamodb = await aws.dynamodb()
        assert await DynamoUsers(dynamodb, "control", clock=clock, metrics=CountedMetrics()).user("x") is None
        hour = timedelta(hours=1)
        quotas = DynamoQuotas(dynamodb, "control")
        assert await quotas.take("user:x", 5, limit=10, window=hour, now=clock.now()) == 5

        assert await SecretsManagerSecrets(await aws.secretsmanager()).text(account.secret) == "PEM"


async def test_an_upload_that_breaks_off_is_given_up(account: Account) -> None:
    async with AwsSession(None, **account.credentials) as aws:
        s3 = await aws.s3()
        upload: Any = {"Bucket": "spool", "Key": "messages/broken"}
        upload["UploadId"] = (await s3.create_multipart_upload(**upload))["UploadId"]
        await s3.upload_part(**upload, PartNumber=1, Body=b"x")
        await s3.abort_multipart_upload(**upload)


async def test_a_task_may_not_look_at_mail_or_take_it_away(account: Account) -> None:
    s3, sqs, dynamodb = (_client(name, account.credentials) for name in ("s3", "sqs", "dynamodb"))
    s3.put_object(Bucket="spool", Key="messages/a", Body=b"x")
    sqs.send_message(QueueUrl=account.queue_url, MessageBody="x")
    for call, arguments in (
        (s3.get_object, {"Bucket": "spool", "Key": "messages/a"}),
        (s3.delete_object, {"Bucket": "spool", "Key": "messages/a"}),
        (s3.list_objects_v2, {"Bucket": "spool"}),
        (sqs.receive_message, {"QueueUrl": account.queue_url}),
        (sqs.purge_queue, {"QueueUrl": account.queue_url}),
        (dynamodb.scan, {"TableName": "control"}),
        (dynamodb.put_item, {"TableName": "control", "Item": {"pk": {"S": "user#x"}}}),
        (dynamodb.delete_item, {"TableName": "control", "Key": {"pk": {"S": "user#x"}}}),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            call(**arguments)


def _account(aws: EmbeddedAws, synthesised: Synthesised) -> Account:
    where = {"endpoint_url": aws.endpoint_url, "region_name": REGION}
    root = {**where, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    s3, sqs, dynamodb, secrets, iam, sts = (
        _client(name, root) for name in ("s3", "sqs", "dynamodb", "secretsmanager", "iam", "sts")
    )
    s3.create_bucket(Bucket="spool")
    queue_url = sqs.create_queue(QueueName="accepted")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
    table = dynamodb.create_table(
        TableName="control",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )["TableDescription"]
    secret = secrets.create_secret(Name="tls", SecretString="PEM")["ARN"]

    names = {
        "SpoolMessages": "arn:aws:s3:::spool/*",
        "Queuesaccepted": queue["QueueArn"],
        "LedgerControl": table["TableArn"],
        TLS_SECRET: secret,
    }
    policy = json.loads(json.dumps(synthesised.task_policy))
    for statement in policy["Statement"]:
        written = json.dumps(statement["Resource"])
        (statement["Resource"],) = (arn for name, arn in names.items() if name in written)
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(
        RoleName="task",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )["Role"]
    iam.put_role_policy(RoleName="task", PolicyName="task", PolicyDocument=json.dumps(policy))
    given = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="task")["Credentials"]
    return Account(
        queue_url,
        secret,
        {
            **where,
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        },
    )


def _client(service: Any, arguments: Any) -> Any:
    return boto3.client(service, **arguments)


async def _content(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield bytes(size)
