"""Who an operator is: as AWS says, and in words when it does not."""

from __future__ import annotations

import pytest

from empath.aws.identity import caller_identity
from empath.aws.session import AwsSession
from empath.domain.errors import ControlTrouble

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_caller_has_an_arn(aws: AwsSession) -> None:
    assert (await caller_identity(await aws.sts())).startswith("arn:aws:")


async def test_trouble_says_what_was_asked() -> None:
    nowhere = "http://127.0.0.1:1"
    async with AwsSession(endpoint_url=nowhere, region_name="us-east-1", aws_access_key_id="t",
                          aws_secret_access_key="t") as session:  # fmt: skip
        with pytest.raises(ControlTrouble, match="who you are"):
            await caller_identity(await session.sts())
