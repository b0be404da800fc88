"""What `empathctl` makes of a deployment's outputs: operations and audit lines, in the name of the caller."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from empath.aws.audit import S3Audit
from empath.aws.ledger import DynamoLedger
from empath.control.target import Target
from empath.domain.audit import AuditRecord
from empath.domain.audit_chain import Block
from empath.domain.delivery_state import Event, State
from empath.pipeline.audit_check import check
from empath.pipeline.operating import Did
from tests.contracts.ledger_samples import after, stored

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient

pytestmark = pytest.mark.asyncio(loop_scope="session")


def target(endpoint: str, **outputs: str) -> Target:
    arguments = {
        "endpoint_url": endpoint,
        "region_name": "us-east-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    return Target("the test's own", outputs, arguments)


async def test_a_held_delivery_is_released_with_its_job(
    endpoint: str, dynamodb: DynamoDBClient, sqs: SQSClient, deliveries_table: str
) -> None:
    queue = (await sqs.create_queue(QueueName=f"retry-{uuid.uuid4().hex}"))["QueueUrl"]
    ledger = DynamoLedger(dynamodb, deliveries_table)
    record = await after(ledger, Event.DEFER)
    outputs = {"DeliveriesTable": deliveries_table, "RetryQueueUrl": queue, "DsnQueueUrl": f"{queue}-dsn"}
    deployment = target(endpoint, **outputs)
    async with deployment.operations() as operations:
        assert operations.operator.startswith("arn:aws:")
        for action, status in (("hold", State.HELD), ("release", State.DEFERRED)):
            found = await operations.operate(action, record.key)  # type: ignore[arg-type]
            assert (found.did, found.after) == (Did.DONE, status)
        kept = await stored(ledger, record.key)
        assert kept.operation is not None
        assert kept.operation.operator == operations.operator
    [job] = (await sqs.receive_message(QueueUrl=queue))["Messages"]
    assert record.message_id in job["Body"]


@pytest.mark.parametrize("redact", ["", "user,recipient"])
async def test_a_change_has_its_lines_in_the_trail_of_the_deployment(
    endpoint: str, dynamodb: DynamoDBClient, s3: S3Client, control_table: str, redact: str
) -> None:
    bucket = f"audit-{uuid.uuid4().hex}"
    await s3.create_bucket(Bucket=bucket)
    outputs = {"AuditBucket": bucket, "ControlTable": control_table}
    deployment = target(endpoint, **outputs, **({"AuditRedact": redact} if redact else {}))
    address = "ann@example.com"
    async with deployment.operator_log() as log, log.entry("suppress add", address, "recipient") as entry:
        entry.after = "on the list"
    audit = S3Audit(s3, bucket, dynamodb, control_table)
    assert (await check(audit)).is_sound
    blocks = [Block.decode(await audit.get(key) or b"") async for key in audit.keys("audit/")]
    lines = [AuditRecord.model_validate_json(line) for block in blocks for line in block.lines]
    assert [(line.result, line.after) for line in lines] == [("asked", None), ("done", "on the list")]
    shown = "[REDACTED]@example.com" if redact else address
    assert {(line.operator, line.target) for line in lines} == {(log.operator, shown)}


async def test_a_deployment_without_a_trail_takes_changes_without_lines(endpoint: str) -> None:
    async with target(endpoint).operator_log() as log, log.entry("user revoke", "ann", "user"):
        assert log.audit is None
