"""One PUT of an object without what the SDK works out anew for every call.

Endpoint rules, serialisation, event hooks and the parsing of an answer that is empty cost more CPU than
signing and sending (docs/PERFORMANCE.md); and as the SDK takes bytes for a file, it waits for `100 Continue`
before it sends them, a round trip more. Here it resolves the bucket's endpoint once, and its signer,
credentials and connection pool serve each request. There is one try and no reading of errors: what is not
plainly stored is the SDK's to try in its own way, which is safe because every write is conditional.

It needs three things of the client that are not promised: `_resolve_endpoint_ruleset`, `_request_signer` and
`_endpoint`. The contract suite of the spool runs over it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from botocore.awsrequest import AWSRequest

from empath.aws.errors import FOREIGN
from empath.aws.session import USER_AGENT

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_HEADERS = {"If-None-Match": "*", "User-Agent": USER_AGENT}
_STORED = frozenset({200, 412})
"""412: it was there already."""

_SIGNATURE = "v4"
"""The only kind that is signed here; S3 Express, for one, has sessions of its own."""

logger = logging.getLogger(__name__)


class QuickPut:
    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = cast(Any, client)
        self._bucket = bucket
        self._target: _Target | None = None

    async def put(self, key: str, octets: bytes | bytearray) -> bool:
        """Store an object unless its key is taken; whether it is there now.

        If not, nothing is known: the request may have been refused, lost, or be under way.
        """
        try:
            target = self._target or await self._resolve()
            if target.auth_type != _SIGNATURE:
                return False
            request = AWSRequest("PUT", target.url + quote(key, safe="/~"), _HEADERS, octets)
            signer = await self._client._request_signer.get_auth_instance(
                target.signing["signing_name"], target.signing["region"], "s3v4"
            )
            signer.add_auth(request)
            answer = await self._client._endpoint.http_session.send(request.prepare())
        except FOREIGN as error:
            logger.warning("a PUT failed and is tried again: %s", type(error).__name__)
            return False
        if answer.status_code in _STORED:
            return True
        logger.warning("a PUT was answered with %d and is tried again", answer.status_code)
        return False

    async def _resolve(self) -> _Target:
        context: dict[str, Any] = {}
        operation = self._client.meta.service_model.operation_model("PutObject")
        url, _, _ = await self._client._resolve_endpoint_ruleset(
            operation, {"Bucket": self._bucket, "Key": "key"}, context
        )
        self._target = _Target(url, context)
        return self._target


class _Target:
    """Where a bucket is, and what requests to it are signed with."""

    def __init__(self, url: str, context: dict[str, Any]) -> None:
        self.url = f"{url.rstrip('/')}/"
        self.auth_type: str | None = context.get("auth_type")
        self.signing: dict[str, str] = context.get("signing", {})
