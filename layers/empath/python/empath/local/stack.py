"""The whole relay on one machine: AWS, both stacks, the ingress, and an internet to send to.

Everything but the embedded AWS and the ingress runs in this process. It ends in the reverse order of its
beginning, whatever ended it, and leaves no process behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empath.aws.control import DynamoControl
from empath.aws.session import AwsSession
from empath.aws.users import DynamoUsers
from empath.local.certificate import LocalCertificate
from empath.local.deploy import Deployment, StackOutputs, credentials, deploy
from empath.local.embedded_aws import REGION, EmbeddedAws, Options, embedded_aws
from empath.local.errors import LocalStackError
from empath.local.events import listen
from empath.local.inbox import Inbox
from empath.local.internet import LocalInternet
from empath.local.options import HOST, LocalOptions
from empath.local.ports import ingress_ports, require_ingress_ports
from empath.local.state import RunningStack, forget_state, is_held, lock_file, read_state, write_state
from empath.local.supervisor import supervised_ingress
from empath.local.user import provide_user
from empath.system import SystemClock
from empath.testing.metrics import CountedMetrics

HOSTNAME = "relay.localhost"

QUICK_RETRIES = {"first_delay": 2, "factor": 2, "max_delay": 300, "jitter": 0.2, "expiry": 86_400}
"""So that a person who plays with `defer.test` sees every attempt within seconds."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LocalStack:
    """A running local stack."""

    options: LocalOptions
    running: RunningStack
    ended: asyncio.Future[str]
    """Done, with the reason, when a part of it ended by itself."""


@contextlib.asynccontextmanager
async def local_stack(options: LocalOptions, tell: Tell) -> AsyncIterator[LocalStack]:
    """The local stack for the length of a block, accepting connections everywhere.

    `tell` gets a line of text for each step. Raises LocalStackError.
    """
    async with contextlib.AsyncExitStack() as parts:
        parts.enter_context(_alone(options.state_dir))
        # Now, for whoever else listens there would be taken for the ingress later.
        require_ingress_ports(options)
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        inbox = await parts.enter_async_context(
            Inbox.running(options.state_dir / "inbox", host=options.internet_address, port=options.inbox_port)
        )
        internet = await parts.enter_async_context(
            LocalInternet.running(
                host=options.internet_address,
                port=options.dns_port,
                inbox_address=options.internet_address,
            )
        )

        aws: EmbeddedAws | None = None
        endpoint_url = options.endpoint_url
        if endpoint_url is None:
            tell("starting the embedded AWS")
            aws = await parts.enter_async_context(
                embedded_aws(Options(state_dir=options.state_dir, port=options.aws_port))
            )
            endpoint_url = aws.endpoint_url
            _watch(asyncio.create_task(aws.wait()), "the embedded AWS ended", ended)

        tell(f"deploying both stacks to {endpoint_url} (the first time takes up to a minute)")
        outputs = await deploy(
            Deployment(
                endpoint_url=endpoint_url,
                state_dir=options.state_dir,
                bundling="local" if aws else "lambda",
                settings={
                    "hostname": HOSTNAME,
                    "nameservers": options.nameservers or f"{options.internet_address}:{internet.port}",
                    **options.settings,
                },
            )
        )
        await _fill_control_table(
            endpoint_url,
            outputs,
            options.state_dir,
            mx_port=options.mx_port or inbox.port,
            allowed=[f"{options.internet_address}/32"],
        )
        try:
            await asyncio.to_thread(listen, endpoint_url, REGION, outputs.named["EventBus"])
        except LocalStackError as error:
            tell(f"{error.problem}: `empathctl local events` shows none")
        if aws is not None:
            await aws.checkpoint()

        tell("starting the ingress")
        tls = LocalCertificate.of(options.state_dir.resolve())
        if tls.provide(SystemClock().now()):
            tell(f"made a certificate of its own: {tls.certificate}")
        ports = ingress_ports(options)
        keeper = await parts.enter_async_context(
            supervised_ingress(
                ports=(ports.smtp, ports.submission, ports.submissions),
                environment={
                    **credentials(endpoint_url),
                    **outputs.environment(),
                    "EMPATH_SMTP_HOST": HOST,
                    "EMPATH_HOSTNAME": HOSTNAME,
                    "EMPATH_TLS_CERTIFICATE": str(tls.certificate),
                    "EMPATH_TLS_KEY": str(tls.key),
                    **ports.environment(),
                    **({"EMPATH_TLS_CLIENT_CA": str(options.client_ca)} if options.client_ca else {}),
                },
                log_file=options.state_dir / "ingress.log",
                on_restart=lambda code: tell(f"the ingress ended (exit code {code}); it is started again"),
            )
        )
        _watch(keeper, "the ingress cannot be kept alive", ended)

        running = RunningStack(
            pid=os.getpid(),
            endpoint_url=endpoint_url,
            region=REGION,
            smtp=f"{HOST}:{ports.smtp}",
            inbox=f"{options.internet_address}:{inbox.port}",
            dns=f"{options.internet_address}:{internet.port}",
            outputs=dict(outputs.named),
            submission=f"{HOST}:{ports.submission}",
            submissions=f"{HOST}:{ports.submissions}",
            health=f"{HOST}:{ports.health}",
        )
        write_state(options.state_dir, running)
        parts.callback(forget_state, options.state_dir)
        yield LocalStack(options, running, ended)


async def run_until_stopped(options: LocalOptions, tell: Tell, ready: Callable[[LocalStack], None]) -> None:
    """Hold the local stack until SIGINT or SIGTERM. Raises LocalStackError when a part of it fails."""
    held = asyncio.ensure_future(_hold(options, tell, ready))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Also while it is still being started: what has begun ends in order.
        loop.add_signal_handler(number, held.cancel)
    try:
        await held
    except asyncio.CancelledError:
        if not held.cancelled():
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _hold(options: LocalOptions, tell: Tell, ready: Callable[[LocalStack], None]) -> None:
    async with local_stack(options, tell) as stack:
        ready(stack)
        try:
            problem = await stack.ended
        except asyncio.CancelledError:
            tell("stopping")
            raise
        raise LocalStackError(problem, f"see the logs in {options.state_dir}")


async def take_down(state_dir: Path, *, within: float = 15.0) -> bool:
    """Stop the local stack of `state_dir`, if one runs. Raises LocalStackError when it does not end."""
    stack = read_state(state_dir)
    # The lock tells that it is still the same process: a killed stack's id may be another's by now.
    if stack is None or not stack.is_alive() or not is_held(state_dir):
        forget_state(state_dir)
        return False
    try:
        os.kill(stack.pid, signal.SIGTERM)
    except PermissionError:
        raise LocalStackError(
            f"the local stack (process {stack.pid}) belongs to another user", "stop it as that user"
        ) from None
    try:
        async with asyncio.timeout(within):
            while stack.is_alive():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise LocalStackError(
            f"the local stack (process {stack.pid}) still runs {within:.0f} s after it was asked to stop"
        ) from None
    return True


@contextlib.contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """One stack per state directory; the lock goes with the process, however it ends."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        file = lock_file(state_dir).open("w")
    except OSError as error:
        raise LocalStackError(
            f"{state_dir} cannot be the state directory ({error.strerror})",
            "choose a directory that can be written to with --state-dir",
        ) from None
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LocalStackError(
                f"a local stack already runs in {state_dir}",
                "stop it with `empathctl local down`, or choose another --state-dir",
            ) from None
        yield


async def _fill_control_table(
    endpoint_url: str, outputs: StackOutputs, state_dir: Path, *, mx_port: int, allowed: Sequence[str]
) -> None:
    """What makes this an internet of its own: loopback is allowed, next hops are at the inbox's port. And a
    user to try submission with."""
    clock = SystemClock()
    async with AwsSession(
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 (what every emulator takes)
    ) as session:
        client = await session.dynamodb()
        control = DynamoControl(client, outputs.control_table, clock=clock, metrics=CountedMetrics())
        await control.set_policy(
            "*", {"allow_addresses": ["127.0.0.0/8", *allowed], "port": mx_port, "retry": QUICK_RETRIES}
        )
        await provide_user(DynamoUsers(client, outputs.control_table, clock=clock), clock, state_dir)


def _watch(task: asyncio.Task[Any], what: str, ended: asyncio.Future[str]) -> None:
    def tell(done: asyncio.Task[Any]) -> None:
        if done.cancelled() or ended.done():
            return
        error = done.exception()
        ended.set_result(f"{what}: {error}" if error else what)

    task.add_done_callback(tell)
