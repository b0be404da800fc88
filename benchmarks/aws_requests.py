"""Requests to AWS, counted where they leave the client."""

from __future__ import annotations

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

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.counting = True

    def watch(self, client: Any) -> None:
        client.meta.events.register("before-send", self._count)

    def _count(self, event_name: str, **arguments: Any) -> None:
        if self.counting:
            service, operation = event_name.split(".")[1:]
            self.calls[f"{service} {operation}"] += 1
