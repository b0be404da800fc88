"""The Secrets contract: the current value, read anew each time, or a word about why not."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Protocol

import pytest
import pytest_asyncio

from empath.aws.secrets import SecretsManagerSecrets
from empath.aws.session import AwsSession
from empath.domain.errors import SecretTrouble, SecretUnusable
from empath.ports import Secrets
from empath.testing.memory_secrets import MemorySecrets

if TYPE_CHECKING:
    from types_aiobotocore_secretsmanager import SecretsManagerClient

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Bench(Protocol):
    """A store of secrets with somebody who writes them."""

    port: Secrets

    async def write(self, name: str, value: str) -> str:
        """Returns another name for it, which is the same one where there is no other."""


class MemoryBench:
    def __init__(self) -> None:
        self._secrets = MemorySecrets()
        self.port: Secrets = self._secrets

    async def write(self, name: str, value: str) -> str:
        self._secrets.values[name] = value
        return name


class AwsBench:
    def __init__(self, client: SecretsManagerClient) -> None:
        self._client = client
        self._written: set[str] = set()
        self.port: Secrets = SecretsManagerSecrets(client)

    async def write(self, name: str, value: str) -> str:
        if name in self._written:
            return (await self._client.put_secret_value(SecretId=name, SecretString=value))["ARN"]
        self._written.add(name)
        return (await self._client.create_secret(Name=name, SecretString=value))["ARN"]


@pytest_asyncio.fixture(loop_scope="session")
async def client(aws: AwsSession) -> SecretsManagerClient:
    return await aws.secretsmanager()


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def bench(request: pytest.FixtureRequest, client: SecretsManagerClient) -> Bench:
    return MemoryBench() if request.param == "memory" else AwsBench(client)


@pytest.fixture
def name() -> str:
    return f"empath/{uuid.uuid4().hex}"


async def test_a_secret_is_read_by_its_name_and_by_its_arn(bench: Bench, name: str) -> None:
    arn = await bench.write(name, "Schlüssel\n")
    assert await bench.port.text(name) == await bench.port.text(arn) == "Schlüssel\n"


async def test_the_newest_value_counts_at_once(bench: Bench, name: str) -> None:
    for value in ("one", "two"):
        await bench.write(name, value)
        assert await bench.port.text(name) == value


async def test_a_secret_that_is_not_there_is_named(bench: Bench, name: str) -> None:
    with pytest.raises(SecretUnusable, match=name):
        await bench.port.text(name)


# What only the service has.


async def test_a_text_that_is_kept_as_octets_is_read(client: SecretsManagerClient, name: str) -> None:
    await client.create_secret(Name=name, SecretBinary="Schlüssel".encode())
    assert await SecretsManagerSecrets(client).text(name) == "Schlüssel"


async def test_octets_that_are_no_text_are_not_a_secret_for_us(
    client: SecretsManagerClient, name: str
) -> None:
    await client.create_secret(Name=name, SecretBinary=b"\xff\xfe")
    with pytest.raises(SecretUnusable, match="holds no text"):
        await SecretsManagerSecrets(client).text(name)


async def test_a_secret_that_is_marked_for_deletion_is_none(client: SecretsManagerClient, name: str) -> None:
    await client.create_secret(Name=name, SecretString="x")
    await client.delete_secret(SecretId=name)
    with pytest.raises(SecretUnusable, match="marked for deletion"):
        await SecretsManagerSecrets(client).text(name)


async def test_nobody_who_answers_is_trouble() -> None:
    async with AwsSession(
        endpoint_url="http://127.0.0.1:1",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    ) as session:
        with pytest.raises(SecretTrouble, match="reading the secret 'mx'"):
            await SecretsManagerSecrets(await session.secretsmanager()).text("mx")
