"""An embedded AWS for the length of a benchmark."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from empath.local.embedded_aws import Options, embedded_aws


@asynccontextmanager
async def aws_at(endpoint: str | None) -> AsyncIterator[str]:
    """The URL of an AWS: `endpoint`, or that of one that is started, and gone with all it had afterwards."""
    if endpoint is not None:
        yield endpoint
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        options = Options(Path(home), port=_free_port(), log_level="WARNING", persist=False)
        async with embedded_aws(options) as aws:
            yield aws.endpoint_url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
