"""The embedded AWS: MiniStack as a child process on the loopback interface.

It lives in an environment of its own (`.venv-aws`), because it pins botocore exactly. Everything it writes is
under one directory of the state directory: its log, its state, the workers' copies of code. It keeps its
state over runs: when it is stopped it writes queues, tables, functions and stacks down, and S3 objects are
on disk at once. After a SIGKILL the state is that of the last orderly stop or `checkpoint`.

Its Lambda workers are its children and share its process group, which is killed when it has ended. It reads a
pipe that only this process holds open: closing it asks for an orderly stop, and so does the death of this
process, however that happens.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from empath.local.checkout import checkout_root
from empath.local.errors import LocalStackError
from empath.local.ports import require_free

HOST = "127.0.0.1"
REGION = "us-east-1"
HEALTH = "/_ministack/health"

START_WITHIN = 30.0
# Invocations under way have 2 s to finish; writing the state of thousands of messages takes about a second.
STOP_WITHIN = 7.0

# Run as a file by another interpreter, so it imports nothing of the library.
_PROGRAM = Path(__file__).with_name("embedded_program.py")


@dataclass(frozen=True, slots=True)
class Options:
    """Where the embedded AWS listens and keeps its things."""

    state_dir: Path
    port: int = 4566
    log_level: str = "INFO"
    persist: bool = True
    # Evaluate IAM: a function may do only what its role allows. Clients with the access key `test` are root.
    authorize: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The only directory it writes to."""
        return self.state_dir.resolve() / "aws"

    @property
    def log_file(self) -> Path:
        """Its log, with the output of the functions between its own lines."""
        return self.home / "aws.log"

    @property
    def endpoint_url(self) -> str:
        """What AWS_ENDPOINT_URL is for clients."""
        return f"http://{HOST}:{self.port}"


class EmbeddedAws:
    """A running embedded AWS. `start` gives one; `stop` ends it with everything it started."""

    def __init__(self, options: Options, process: asyncio.subprocess.Process) -> None:
        self.options = options
        self._process = process

    @property
    def endpoint_url(self) -> str:
        """What AWS_ENDPOINT_URL is for clients."""
        return self.options.endpoint_url

    @property
    def pid(self) -> int:
        """Also the id of the process group that its Lambda workers are in."""
        return self._process.pid

    @classmethod
    async def start(cls, options: Options, interpreter: Path | None = None) -> "EmbeddedAws":
        """Start it and wait until it answers.

        Raises LocalStackError when the port is taken, MiniStack is not installed, or it does not come up.
        """
        python = interpreter or _interpreter()
        require_free(options.port, "the embedded AWS", "EMPATH_AWS_PORT")
        _prepare(options)
        with options.log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                str(python),
                # Its directory must not be importable: modules beside it have names of common libraries.
                "-P",
                str(_PROGRAM),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=options.home,
                env=_environment(options),
                # Its own group: Ctrl-C in the terminal reaches only the one who stops things in order.
                start_new_session=True,
            )
        aws = cls(options, process)
        try:
            await aws._until_healthy()
        except BaseException:
            await aws.stop()
            raise
        return aws

    async def wait(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        return await self._process.wait()

    async def checkpoint(self) -> None:
        """Ask it to write its state down, for the case that it is killed before it can. Does not wait."""
        if self._process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(b".")
                await self._process.stdin.drain()

    async def stop(self, within: float = STOP_WITHIN) -> None:
        """Let it write its state down and end, then make sure that no worker is left. Idempotent."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), within)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def _until_healthy(self) -> None:
        try:
            async with asyncio.timeout(START_WITHIN):
                while not await _healthy(self.options.port):
                    if self._process.returncode is not None:
                        raise LocalStackError(
                            f"the embedded AWS ended at once (exit code {self._process.returncode}):"
                            f"\n{tail(self.options.log_file)}"
                        )
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise LocalStackError(
                f"the embedded AWS does not answer after {START_WITHIN:.0f} s:\n{tail(self.options.log_file)}"
            ) from None


@contextlib.asynccontextmanager
async def embedded_aws(options: Options) -> AsyncIterator[EmbeddedAws]:
    """A running embedded AWS for the length of a block."""
    aws = await EmbeddedAws.start(options)
    try:
        yield aws
    finally:
        await aws.stop()


def tail(log_file: Path, lines: int = 20) -> str:
    """The last lines of a log, for an error message."""
    try:
        return "\n".join(log_file.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


def _interpreter() -> Path:
    python = checkout_root() / ".venv-aws/bin/python"
    if not python.exists():
        raise LocalStackError(f"the embedded AWS is not installed ({python} is missing)", "run: make setup")
    return python


def _prepare(options: Options) -> None:
    home = options.home
    _discard(home / "tmp")
    if not any((home / "state").glob("*.json")):
        # It was killed before it wrote anything down: buckets that no stack knows would stop the deployment.
        shutil.rmtree(home / "s3", ignore_errors=True)
    for directory in ("tmp", "state", "s3"):
        (home / directory).mkdir(parents=True, exist_ok=True)
    if options.log_file.exists():
        options.log_file.replace(options.log_file.with_suffix(".log.1"))
    _mend_state(options)


def _discard(directory: Path) -> None:
    """Put a directory aside and remove it in the background, with what earlier runs did not finish.

    The workers' copies of the layers are tens of thousands of files, which can take a minute.
    """
    if directory.exists():
        directory.rename(directory.with_name(f"{directory.name}-discarded-{time.time_ns()}"))
    for discarded in directory.parent.glob(f"{directory.name}-discarded-*"):
        threading.Thread(target=shutil.rmtree, args=(discarded, True), daemon=True).start()


def _mend_state(options: Options) -> None:
    """Make the state of an earlier run fit for this one; what cannot be read MiniStack judges itself."""
    state = options.home / "state"
    port_file = options.home / "port"
    was = port_file.read_text() if port_file.exists() else str(options.port)
    port_file.write_text(str(options.port))
    if was != str(options.port):
        # Queue URLs carry the port: in the queues' own keys, in outputs, in the functions' environment.
        for file in state.glob("*.json"):
            text = file.read_text()
            file.write_text(text.replace(f"{HOST}:{was}/", f"{HOST}:{options.port}/"))
    functions = state / "lambda.json"
    if functions.exists():
        # Stream records are not kept, but how far a mapping had read is: it would skip as many new ones.
        with contextlib.suppress(ValueError, KeyError):
            saved = json.loads(functions.read_text())
            saved["payload"]["dynamodb_stream_positions"]["data"] = {}
            functions.write_text(json.dumps(saved))


def _environment(options: Options) -> dict[str, str]:
    """MiniStack hands its own environment on to every worker, so it gets only what it needs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
    persist = "1" if options.persist else "0"
    return {
        **kept,
        "GATEWAY_PORT": str(options.port),
        "BIND_HOST": HOST,
        # Queue URLs carry this name; as an address it also makes S3 clients use path-style requests.
        "MINISTACK_HOST": HOST,
        "MINISTACK_REGION": REGION,
        "AUTH": "true" if options.authorize else "false",
        "LOG_LEVEL": options.log_level,
        "PERSIST_STATE": persist,
        "S3_PERSIST": persist,
        "STATE_DIR": str(options.home / "state"),
        "S3_DATA_DIR": str(options.home / "s3"),
        "TMPDIR": str(options.home / "tmp"),
        # Listeners that nobody here asks for.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
        **options.environment,
    }


async def _healthy(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    try:
        writer.write(f"GET {HEALTH} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        await writer.drain()
        status = await reader.readline()
        return b" 200 " in status
    except OSError:
        return False
    finally:
        writer.close()


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("the embedded AWS needs process groups, which Windows has not")
