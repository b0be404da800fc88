"""Clients for S3, SQS, DynamoDB, Secrets Manager and SES: opened once per process, on first use, and closed
together.

Region, credentials and endpoint come from where the AWS SDKs look for them (AWS_REGION, the role of the task
or function, AWS_ENDPOINT_URL, ...). A client belongs to the event loop that it was opened on.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import aiobotocore
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError

from empath.domain.errors import ConfigError

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_secretsmanager import SecretsManagerClient
    from types_aiobotocore_sqs import SQSClient

USER_AGENT = f"empath-mta aiobotocore/{aiobotocore.__version__}"

# Connections per service; more calls than that wait for one. A listener's sessions and a batch's deliveries
# are bounded below it.
MAX_POOL_CONNECTIONS = 100

CONNECT_TIMEOUT = 3.0
"""Seconds. The endpoints are in the region; what takes longer is lost, and a second try is quicker."""

READ_TIMEOUT = 10.0
"""Seconds between two pieces of an answer. S3 takes 5 MB parts and long objects, so it gets more."""

S3_READ_TIMEOUT = 30.0

SES_READ_TIMEOUT = 60.0
"""Seconds. It answers once it has queued the message, and giving up before is what makes mail go twice."""

FUNCTION_READ_TIMEOUT = 910.0
"""Seconds: no invocation takes longer than 900."""

ATTEMPTS = 3
"""Tries of one call, the first included. The SDK waits up to 1, then up to 2 seconds between them; whoever
needs more patience has a queue behind it."""

KEEPALIVE = 15.0
"""Seconds that an idle connection is kept: shorter than the services' own limits (from 20 s), so that a call
does not start on a connection that the other end is just closing."""


class _OneTrustStore(AIOHTTPSession):
    """Clients that share what they verify servers with: reading the authorities' certificates takes 16 ms of
    CPU, and each client would do it before its first request.

    `_build_ssl_contexts` is not promised; where it goes away, every client reads them again.
    """

    _shared: ClassVar[dict[bool | str, tuple[ssl.SSLContext, None]]] = {}

    def _build_ssl_contexts(self, proxy_url: str | None) -> Any:
        mine: Any = self
        sdk: Any = super()
        if proxy_url or mine._cert_file:
            # With certificates of its own a context is not for others.
            return sdk._build_ssl_contexts(proxy_url)
        if mine._verify not in self._shared:
            self._shared[mine._verify] = sdk._build_ssl_contexts(None)
        return self._shared[mine._verify]


def config(*, read_timeout: float = READ_TIMEOUT, attempts: int = ATTEMPTS) -> AioConfig:
    """How every client is set up.

    The client costs more than everything else on the path of a message, so what it does per call is kept
    small: parameters are ours and not validated again; no checksum is computed beyond what a service insists
    on, for the signature covers the body's hash anyway; the user agent is a constant, where the SDK would put
    one together from a dozen parts for every call (a sixth of its CPU).
    """
    return AioConfig(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=read_timeout,
        max_pool_connections=MAX_POOL_CONNECTIONS,
        parameter_validation=False,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent=USER_AGENT,
        connector_args={"keepalive_timeout": KEEPALIVE},
        http_session_cls=_OneTrustStore,
    )


def region_of_environment() -> dict[str, str]:
    """AWS_REGION as an argument for clients: the SDKs' common name for it, which botocore does not read."""
    region = os.environ.get("AWS_REGION")
    return {"region_name": region} if region else {}


class AwsSession:
    """The process's clients; `async with` closes them, and so does `close`.

    Only what is asked for is opened: loading a service's model is most of a cold start. Opening one raises
    ConfigError where the environment does not say how.
    """

    def __init__(self, session: AioSession | None = None, **client_arguments: str) -> None:
        """`client_arguments` (endpoint_url, region_name, ...) count before what the environment says."""
        self._session = session or AioSession()
        self._client_arguments = region_of_environment() | client_arguments
        self._open: dict[str, Any] = {}
        self._opening = asyncio.Lock()
        self._exits = AsyncExitStack()

    async def s3(self) -> S3Client:
        client: S3Client = await self._client("s3", S3_READ_TIMEOUT)
        return client

    async def sqs(self) -> SQSClient:
        client: SQSClient = await self._client("sqs", READ_TIMEOUT)
        return client

    async def dynamodb(self) -> DynamoDBClient:
        client: DynamoDBClient = await self._client("dynamodb", READ_TIMEOUT)
        return client

    async def secretsmanager(self) -> SecretsManagerClient:
        client: SecretsManagerClient = await self._client("secretsmanager", READ_TIMEOUT)
        return client

    async def events(self) -> Any:
        """EventBridge's."""
        return await self._client("events", READ_TIMEOUT)

    async def sts(self) -> Any:
        """The Security Token Service's."""
        return await self._client("sts", READ_TIMEOUT)

    async def dynamodbstreams(self) -> Any:
        """DynamoDB Streams'."""
        return await self._client("dynamodbstreams", READ_TIMEOUT)

    async def functions(self) -> Any:
        """Lambda's. It answers when the function has ended."""
        return await self._client("lambda", FUNCTION_READ_TIMEOUT, attempts=1)

    async def sesv2(self, region: str | None = None) -> Any:
        """Of the process's region or another one. A call is made once: mail is not to go twice."""
        return await self._client("sesv2", SES_READ_TIMEOUT, attempts=1, region=region)

    async def _client(
        self, service: str, read_timeout: float, *, attempts: int = ATTEMPTS, region: str | None = None
    ) -> Any:
        arguments = self._client_arguments | ({"region_name": region} if region else {})
        name = f"{service} {region}" if region else service
        async with self._opening:
            if name not in self._open:
                # As Any: the stubs know 400 services by literal name, and each argument by its type.
                create: Any = self._session.create_client
                settings = config(read_timeout=read_timeout, attempts=attempts)
                try:
                    self._require_region()
                    client = create(service, config=settings, **arguments)
                    self._open[name] = await self._exits.enter_async_context(client)
                except (BotoCoreError, ValueError) as error:
                    # No request was made yet: this is about the environment, or the user's AWS files.
                    raise ConfigError(f"the AWS settings cannot be used: {error}") from error
        return self._open[name]

    def _require_region(self) -> None:
        # With an explicit endpoint botocore would notice only when it signs the first request.
        named: Any = self._client_arguments.get("region_name") or self._session.get_config_variable("region")
        if not named:
            raise ConfigError("AWS_REGION is not set: it should hold the region's name")

    async def close(self) -> None:
        """Close every client; they open anew when asked for again."""
        self._open.clear()
        await self._exits.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
