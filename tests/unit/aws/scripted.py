"""An AWS client that answers from a script, for what emulators never answer."""

from __future__ import annotations

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
