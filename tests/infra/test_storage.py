"""What holds mail: private, encrypted, kept, and consistent in its times."""

from typing import Any

import pytest

from empath.aws.spool import kept_key_of
from empath.domain.content_policy import KEEP_DAYS
from infra.constructs.ledger import LISTED
from infra.constructs.queues import CONSUMERS, MAX_RECEIVE_COUNT
from infra.settings import COLD_START_S, LEASE_GRACE_S
from tests.infra.conftest import Synthesised

DAY = 24 * 3600


def test_buckets_are_private_and_encrypted(aws: Synthesised) -> None:
    buckets = aws.properties("AWS::S3::Bucket").values()
    assert len(buckets) == 2
    for bucket in buckets:
        assert all(bucket["PublicAccessBlockConfiguration"].values())
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_the_lifecycle_removes_only_what_no_message_can_still_need(aws: Synthesised) -> None:
    bucket = _bucket(aws, "Spool")
    rule, *kept = bucket["LifecycleConfiguration"]["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["Prefix"] == "messages/"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    message_expiry_days = 5
    assert rule["ExpirationInDays"] >= message_expiry_days + 2
    assert {each["Prefix"]: each["ExpirationInDays"] for each in kept} == {
        kept_key_of("", days): days for days in KEEP_DAYS
    }


@pytest.mark.parametrize("kind", ["AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy"])
def test_plain_http_is_refused(aws: Synthesised, kind: str) -> None:
    policies = aws.properties(kind)
    owners = {"AWS::S3::BucketPolicy": "AWS::S3::Bucket", "AWS::SQS::QueuePolicy": "AWS::SQS::Queue"}
    assert len(policies) == len(aws.resources(owners[kind]))
    for policy in policies.values():
        assert any(
            statement["Effect"] == "Deny"
            and statement["Condition"].get("Bool") == {"aws:SecureTransport": "false"}
            for statement in policy["PolicyDocument"]["Statement"]
        )


def test_every_queue_has_a_dead_letter_queue_that_keeps_jobs_for_14_days(aws: Synthesised) -> None:
    queues = aws.properties("AWS::SQS::Queue")
    targets = {
        queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        for queue in queues.values()
        if "RedrivePolicy" in queue
    }
    assert len(targets) == len(CONSUMERS)
    for name, queue in queues.items():
        assert queue["MessageRetentionPeriod"] == 14 * DAY
        assert queue["SqsManagedSseEnabled"] is True
        if "RedrivePolicy" in queue:
            assert queue["RedrivePolicy"]["maxReceiveCount"] == MAX_RECEIVE_COUNT
        else:
            assert name in targets or "journaldead" in name


@pytest.mark.parametrize("profile", ["aws", "local"])
def test_a_job_is_shown_again_only_after_every_lease_on_it_has_ended(
    profile: str, request: pytest.FixtureRequest
) -> None:
    synthesised: Synthesised = request.getfixturevalue(profile)
    for queue, consumer in CONSUMERS.items():
        timeout = synthesised.function(consumer)["Timeout"]
        visibility = _queue(synthesised, queue)["VisibilityTimeout"]
        assert timeout + LEASE_GRACE_S + COLD_START_S < visibility


def test_tables_are_on_demand_encrypted_and_expire_items(aws: Synthesised) -> None:
    for table in aws.properties("AWS::DynamoDB::Table").values():
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["SSESpecification"]["SSEEnabled"] is True
        assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
        assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True


def test_deliveries_have_a_stream_and_a_sparse_listing(aws: Synthesised) -> None:
    table = _table(aws, "Deliveries")
    assert table["KeySchema"] == [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ]
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    (index,) = table["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "listing"
    assert index["KeySchema"] == [
        {"AttributeName": "listing", "KeyType": "HASH"},
        {"AttributeName": "at", "KeyType": "RANGE"},
    ]
    assert index["Projection"] == {"ProjectionType": "INCLUDE", "NonKeyAttributes": LISTED}


def test_control_is_one_flat_table_without_a_stream(aws: Synthesised) -> None:
    table = _table(aws, "Control")
    assert table["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}]
    assert "StreamSpecification" not in table


def test_mail_and_state_outlive_the_stack_in_aws_but_not_on_a_laptop(
    aws: Synthesised, local: Synthesised
) -> None:
    for kind in ("AWS::S3::Bucket", "AWS::DynamoDB::Table"):
        assert {r["DeletionPolicy"] for r in aws.resources(kind).values()} == {"Retain"}
        assert {r["DeletionPolicy"] for r in local.resources(kind).values()} == {"Delete"}


def test_cloudformation_chooses_every_physical_name(aws: Synthesised) -> None:
    for kind, name in {
        "AWS::S3::Bucket": "BucketName",
        "AWS::SQS::Queue": "QueueName",
        "AWS::DynamoDB::Table": "TableName",
        "AWS::Lambda::Function": "FunctionName",
        "AWS::IAM::Role": "RoleName",
    }.items():
        assert not [properties for properties in aws.properties(kind).values() if name in properties]


def test_outputs_name_everything_that_clients_need(aws: Synthesised) -> None:
    outputs = {*aws.storage["Outputs"], *aws.pipeline["Outputs"]}
    assert outputs >= {
        *("SpoolBucket", "DeliveriesTable", "ControlTable", "AuditBucket", "EventBus"),
        *("AcceptedQueueUrl", "DeliveryQueueUrl", "RetryQueueUrl", "DsnQueueUrl"),
        *("DeliveryHighQueueUrl", "DeliveryBulkQueueUrl", "DeliveryHighDeadLetterQueueUrl"),
        *("AcceptedDeadLetterQueueUrl", "DeliveryDeadLetterQueueUrl"),
        *("RetryDeadLetterQueueUrl", "DsnDeadLetterQueueUrl", "JournalDeadLetterQueueUrl"),
        *("ResolveFunction", "DeliverFunction", "RetryFunction", "DsnFunction", "JournalFunction"),
    }


def _queue(synthesised: Synthesised, name: str) -> dict[str, Any]:
    (found,) = (
        dict(queue)
        for logical_id, queue in synthesised.properties("AWS::SQS::Queue").items()
        # Behind the name stand eight digits of CDK's.
        if logical_id[:-8] == f"Queues{name.replace('-', '')}" and "RedrivePolicy" in queue
    )
    return found


def _bucket(synthesised: Synthesised, construct: str) -> dict[str, Any]:
    (found,) = (
        dict(bucket)
        for logical_id, bucket in synthesised.properties("AWS::S3::Bucket").items()
        if logical_id.startswith(construct)
    )
    return found


def _table(synthesised: Synthesised, name: str) -> dict[str, Any]:
    (found,) = (
        dict(table)
        for logical_id, table in synthesised.properties("AWS::DynamoDB::Table").items()
        if logical_id.startswith(f"Ledger{name}")
    )
    return found
