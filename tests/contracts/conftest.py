"""Each port's contract runs against the in-memory adapter and against the AWS one.

The AWS side talks HTTP to moto; with EMPATH_CONTRACTS_ENDPOINT set, to that endpoint (the embedded AWS,
LocalStack) instead. Every test has tables, queues and a bucket of its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from moto.server import ThreadedMotoServer

from empath.aws.session import AwsSession

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    given = os.environ.get("EMPATH_CONTRACTS_ENDPOINT")
    if given:
        yield given
        return
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def aws(endpoint: str) -> AsyncIterator[AwsSession]:
    async with AwsSession(
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    ) as session:
        yield session


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3(aws: AwsSession) -> S3Client:
    return await aws.s3()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sqs(aws: AwsSession) -> SQSClient:
    return await aws.sqs()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def dynamodb(aws: AwsSession) -> DynamoDBClient:
    return await aws.dynamodb()


async def make_deliveries_table(dynamodb: DynamoDBClient) -> str:
    """The ledger's table as `infra/constructs/ledger.py` has it."""
    name = f"deliveries-{uuid.uuid4().hex}"
    await dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": attribute, "AttributeType": "S"} for attribute in ("pk", "sk", "listing", "at")
        ],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "listing",
                "KeySchema": [
                    {"AttributeName": "listing", "KeyType": "HASH"},
                    {"AttributeName": "at", "KeyType": "RANGE"},
                ],
                "Projection": {
                    "ProjectionType": "INCLUDE",
                    "NonKeyAttributes": [
                        "next_attempt_at",
                        "job_at",
                        "attempt",
                        "status",
                        "reason",
                        "domain",
                        "priority",
                        "tenant",
                    ],
                },
            }
        ],
    )
    return name


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def deliveries_table(dynamodb: DynamoDBClient) -> str:
    """One for all tests that look only at their own message."""
    return await make_deliveries_table(dynamodb)


@pytest_asyncio.fixture(loop_scope="session")
async def fresh_table(dynamodb: DynamoDBClient) -> str:
    """An empty one."""
    return await make_deliveries_table(dynamodb)


@pytest_asyncio.fixture(loop_scope="session")
async def control_table(dynamodb: DynamoDBClient) -> str:
    name = f"control-{uuid.uuid4().hex}"
    await dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    return name
