"""The ingress as a child process, started again when it dies, as ECS would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from empath.local.checkout import checkout_root
from empath.local.embedded_aws import tail
from empath.local.errors import LocalStackError
from empath.local.options import HOST

START_WITHIN = 30.0
STOP_WITHIN = 2.0
"""Seconds for open sessions to end; with the embedded AWS's 7, the whole stack is down within 10."""

RESTART_PAUSE = 0.3
USAGE_ERROR = 2
"""The exit code with which the ingress says that starting it again will not help."""


@contextlib.asynccontextmanager
async def supervised_ingress(
    *, ports: Sequence[int], environment: Mapping[str, str], log_file: Path, on_restart: Callable[[int], None]
) -> AsyncIterator[asyncio.Task[None]]:
    """An ingress that listens on all of `ports` for the length of a block; the task fails when it cannot be
    kept alive.

    Raises LocalStackError with the end of its log when it does not come up.
    """
    child = await _start(environment, log_file)
    try:
        await _until_listening(child, ports, log_file)
    except BaseException:
        await _stop(child)
        raise
    keeper = asyncio.create_task(_keep_alive(child, environment, log_file, on_restart))
    try:
        yield keeper
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError, LocalStackError):
            await keeper


async def _keep_alive(
    child: asyncio.subprocess.Process,
    environment: Mapping[str, str],
    log_file: Path,
    on_restart: Callable[[int], None],
) -> None:
    try:
        while True:
            code = await child.wait()
            if code == USAGE_ERROR:
                raise LocalStackError(f"the ingress cannot run:\n{tail(log_file)}", f"see {log_file}")
            on_restart(code)
            await asyncio.sleep(RESTART_PAUSE)
            child = await _start(environment, log_file)
    finally:
        await _stop(child)


async def _start(environment: Mapping[str, str], log_file: Path) -> asyncio.subprocess.Process:
    with log_file.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "empath.local.child",
            "functions.ingress",
            cwd=checkout_root(),
            env={**_inherited(), **environment},
            # Closed by nobody but the end of this process: an ingress without its stack would keep the port.
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=log,
            # Its own session: Ctrl-C in the terminal reaches only the one who stops things in order.
            start_new_session=True,
        )


async def _stop(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(child.wait(), STOP_WITHIN)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _until_listening(child: asyncio.subprocess.Process, ports: Sequence[int], log_file: Path) -> None:
    try:
        async with asyncio.timeout(START_WITHIN):
            while not all([await is_listening(port) for port in ports]):
                if child.returncode is not None:
                    raise LocalStackError(
                        f"the ingress ended at once (exit code {child.returncode}):\n{tail(log_file)}",
                        f"the whole log is {log_file}",
                    )
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise LocalStackError(
            f"the ingress does not listen after {START_WITHIN:.0f} s:\n{tail(log_file)}",
            f"the whole log is {log_file}",
        ) from None


async def is_listening(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _inherited() -> dict[str, str]:
    """The environment without what would lead the ingress to another AWS or other settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "EMPATH_"))}
