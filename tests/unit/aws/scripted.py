"""AWS clients that answer from a script, for what emulators never answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError


def refusal(status: int, code: str, **members: Any) -> ClientError:
    """A service's error answer; `members` are the modelled fields beside it."""
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}, **members}
    return ClientError(answer, "Operation")


class ScriptedClient:
    """Each operation gives its answers in turn (errors are raised); `calls` tells what was asked for."""

    def __init__(self, **answers: list[Any]) -> None:
        self._answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        async def call(**request: Any) -> Any:
            self.calls.append((operation, request))
            answer = self._answers[operation].pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    @property
    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]


class ScriptedSqs:
    """Takes jobs, but not those whose body is in `refusals`, as often as it says there."""

    def __init__(self, **refusals: int) -> None:
        self.refusals = refusals
        self.forgets: set[str] = set()
        """Bodies of entries that a batch's answer leaves out."""
        self.troubles: list[Exception | None] = []
        """What becomes of the next requests as a whole."""
        self.gate = asyncio.Event()
        """While it is not set, requests come but no answer goes."""
        self.gate.set()
        self.batches: list[list[dict[str, Any]]] = []

    async def send_message(self, **request: Any) -> dict[str, Any]:
        del request["QueueUrl"]
        await self._receive([request])
        if self._refuses(request["MessageBody"]):
            raise refusal(500, "InternalError")
        return {"MessageId": "1"}

    async def send_message_batch(self, **request: Any) -> dict[str, Any]:
        await self._receive(request["Entries"])
        failed, taken = [], []
        for entry in request["Entries"]:
            body = entry["MessageBody"]
            if self._refuses(body):
                failed.append({"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"})
            elif body not in self.forgets:
                taken.append({"Id": entry["Id"], "MessageId": "1"})
        return {"Successful": taken, "Failed": failed}

    async def _receive(self, batch: list[dict[str, Any]]) -> None:
        self.batches.append(batch)
        await self.gate.wait()
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            raise trouble

    def _refuses(self, body: str) -> bool:
        left = self.refusals.get(body, 0)
        self.refusals[body] = left - 1
        return left > 0

    @property
    def bodies(self) -> list[list[str]]:
        return [[entry["MessageBody"] for entry in batch] for batch in self.batches]
