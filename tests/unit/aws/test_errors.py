"""Foreign errors become Troubles at one place; the caller's own pass through it."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from empath.aws.errors import code_of, http_status_of, item_of, trouble
from empath.domain.errors import LeaseLost, LedgerTrouble, SpoolTrouble

REFUSED = ClientError(
    {
        "Error": {"Code": "AccessDenied", "Message": "no"},
        "ResponseMetadata": {
            "HTTPStatusCode": 403,
            "RequestId": "1",
            "HostId": "2",
            "HTTPHeaders": {},
            "RetryAttempts": 0,
        },
    },
    "PutObject",
)


@pytest.mark.parametrize(
    "error",
    [
        REFUSED,
        EndpointConnectionError(endpoint_url="https://s3"),
        ConnectTimeoutError(endpoint_url="https://s3"),
        ReadTimeoutError(endpoint_url="https://s3"),
        NoCredentialsError(),
        aiohttp.ClientPayloadError("the body ended early"),
        aiohttp.ServerDisconnectedError(),
        TimeoutError(),
        ConnectionResetError(),
        ssl.SSLError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_client_library_raises_becomes_trouble_and_stays_its_cause(error: Exception) -> None:
    says = f"storing x: .*{type(error).__name__}"
    with pytest.raises(SpoolTrouble, match=says) as caught, trouble(SpoolTrouble, "storing x"):
        raise error
    assert caught.value.__cause__ is error
    assert caught.value.reply.code == 451


@pytest.mark.parametrize("error", [LeaseLost("x"), ValueError("x"), asyncio.CancelledError()])
def test_what_is_not_foreign_passes_through(error: BaseException) -> None:
    with pytest.raises(type(error)), trouble(LedgerTrouble, "reading"):
        raise error


def test_an_answer_can_be_read() -> None:
    assert code_of(REFUSED) == "AccessDenied"
    assert http_status_of(REFUSED) == 403
    assert item_of(REFUSED) is None
