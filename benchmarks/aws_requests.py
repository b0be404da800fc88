"""Requests to AWS, counted where they leave the client."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

CREDENTIALS: dict[str, Any] = {
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
    "region_name": "us-east-1",
}
"""What emulators take."""


class Requests:
    """How many requests clients have sent (each try is one), by service and operation."""

    def __init__(self, latency: float = 0) -> None:
        """`latency` is added to each, in seconds: emulators are nearer than AWS."""
        self.calls: Counter[str] = Counter()
        self.counting = True
        self._latency = latency

    def watch(self, client: Any) -> None:
        # Below the client's own events, for not every request has them (empath.aws.quick_put).
        session, service = client._endpoint.http_session, client.meta.service_model.service_name
        send = session.send

        async def counted(request: Any) -> Any:
            if self.counting:
                self.calls[f"{service} {_operation(request)}"] += 1
            if self._latency:
                await asyncio.sleep(self._latency)
            return await send(request)

        session.send = counted


def _operation(request: Any) -> str:
    """By the protocol's own name for it; of S3, which has none, the method."""
    target = request.headers.get("X-Amz-Target", b"")
    return _text(target).rpartition(".")[2] or str(request.method)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
