"""A local stack that benchmarks load: one that runs already, or one of their own, and what they ask of it.

Times of the relay come from its ledger (`received_at` of a message, start and duration of the attempt that
sent it), times of clients from the benchmark's process; all on one machine's clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from empath.control import dns_reading
from empath.control.errors import ControlError
from empath.control.target import Target, find_local
from empath.domain.records import DeliveryRecord
from empath.local.state import RunningStack, read_state
from empath.ports import QueueName
from empath.system import SystemClock

CHECKOUT = Path(__file__).parents[1]
READY = "empath: ready"
PORTS = ("SMTP", "AWS", "INBOX", "DNS", "SUBMISSION", "SUBMISSIONS", "HEALTH")
STARTS_WITHIN = 300.0
STOPS_WITHIN = 30.0

LINE = b"x" * 70 + b"\r\n"
QUEUED_AS = re.compile(rb"queued as (\S+)")
READS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Accepted:
    message_id: str
    recipient: str
    seconds: float
    """From MAIL to the 250 that takes the message."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A running local stack."""

    state_dir: Path
    running: RunningStack
    target: Target

    @classmethod
    def found(cls, state_dir: Path) -> Relay:
        """The one that runs in `state_dir`; SystemExit when none does."""
        try:
            target = find_local(state_dir)
        except ControlError as error:
            raise SystemExit(str(error)) from None
        running = read_state(state_dir)
        if target is None or running is None or target.smtp is None:
            raise SystemExit(f"no local stack runs in {state_dir}: start it with `make run`")
        return cls(state_dir, running, target)

    @classmethod
    @contextmanager
    def started(cls, state_dir: Path, settings: Mapping[str, object]) -> Iterator[Relay]:
        """A stack of the benchmark's own, on free ports, until the end of the block."""
        state_dir.mkdir(parents=True, exist_ok=True)
        output = state_dir / "output"
        environment = {name: value for name, value in os.environ.items() if name != "AWS_ENDPOINT_URL"}
        environment |= {f"EMPATH_{name}_PORT": str(_free_port()) for name in PORTS}
        environment["EMPATH_SETTINGS"] = " ".join(f"{name}={value}" for name, value in settings.items())
        with output.open("w") as out:
            process = subprocess.Popen(  # noqa: S603 (this interpreter)
                [sys.executable, "-m", "empath.control", "local", "up", "--state-dir", str(state_dir)],
                cwd=CHECKOUT,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            end = time.monotonic() + STARTS_WITHIN
            while not output.read_text().rstrip().endswith(READY):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"the local stack did not start:\n{output.read_text()}")
                time.sleep(0.2)
            yield cls.found(state_dir)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOPS_WITHIN)

    def client(self, service: str) -> Any:
        """An AWS client of the stack."""
        session: Any = boto3
        return session.client(service, **self.target.client_arguments)

    # What an operator may do.

    def direct(self, domain: str, address: str, **policy: Any) -> None:
        """Mail for a domain goes to this address, by its own policy; workers know it within 30 s."""

        async def write() -> None:
            hosts = dns_reading.read_hosts([address], SystemClock().now())
            async with self.target.dns() as ports:
                await ports.cache.override(domain, hosts)
                await ports.control.set_policy(domain, policy)

        asyncio.run(write())

    def switch(self, queue: QueueName, *, on: bool) -> None:
        """Let the functions read a queue, or not."""
        functions, arn = self.client("lambda"), self._arn(queue)
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            if mapping["EventSourceArn"] == arn:
                functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=on)

    def concurrency(self, queue: QueueName) -> int:
        """How many batches of a queue are in work at a time, at most."""
        arn = self._arn(queue)
        mappings = self.client("lambda").list_event_source_mappings()["EventSourceMappings"]
        [found] = [mapping for mapping in mappings if mapping["EventSourceArn"] == arn]
        return int(found["ScalingConfig"]["MaximumConcurrency"])

    def _arn(self, queue: QueueName) -> str:
        return str(self._attributes(self.target.queue_urls()[queue, False])["QueueArn"])

    def _attributes(self, url: str) -> Mapping[str, str]:
        attributes: Mapping[str, str] = self.client("sqs").get_queue_attributes(
            QueueUrl=url, AttributeNames=["All"]
        )["Attributes"]
        return attributes

    def use_endpoint(self, function: str, url: str) -> None:
        """Let a function talk to AWS through `url`."""
        functions, name = self.client("lambda"), self.target.output(f"{function.capitalize()}Function")
        variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        functions.update_function_configuration(
            FunctionName=name, Environment={"Variables": {**variables, "AWS_ENDPOINT_URL": url}}
        )

    # What is there.

    def jobs(self, *, dead: bool = False) -> dict[str, int]:
        """Jobs of each queue (or dead-letter queue) that has any, visible or not."""
        found = {}
        for (queue, is_dead), url in self.target.queue_urls().items():
            attributes = self._attributes(url)
            number = sum(
                int(value) for name, value in attributes.items() if name.startswith("ApproximateNumber")
            )
            if is_dead is dead and number:
                found[queue.value] = number
        return found

    def log_lines(self) -> Iterator[Mapping[str, Any]]:
        """The JSON lines of the functions that queues invoked."""
        with (self.state_dir / "aws" / "aws.log").open(errors="replace") as log:
            for line in log:
                if line.startswith("{"):
                    try:
                        yield json.loads(line)
                    except ValueError:
                        continue  # two processes wrote at the same time

    def deliveries(self, message_ids: Sequence[str]) -> list[DeliveryRecord]:
        """The deliveries of these messages, out of the ledger."""
        return asyncio.run(self._deliveries(message_ids))

    async def _deliveries(self, message_ids: Sequence[str]) -> list[DeliveryRecord]:
        limit = asyncio.Semaphore(READS_AT_ONCE)
        async with self.target.ledger() as ledger:

            async def one(message_id: str) -> Sequence[DeliveryRecord]:
                async with limit:
                    return await ledger.deliveries(message_id)

            found = await asyncio.gather(*map(one, message_ids))
        return [record for records in found for record in records]

    def settled(self, message_ids: Sequence[str], give_up_at: float) -> list[DeliveryRecord]:
        """Every delivery once all are final, or as they are when time is up (epoch seconds)."""
        while True:
            records = self.deliveries(message_ids)
            if len(records) >= len(message_ids) and all(record.is_final for record in records):
                return records
            if time.time() >= give_up_at:
                return records
            time.sleep(1)

    # Mail in.

    def load(
        self, domain: str, count: int, *, size: int = 1000, sessions: int = 10, rate: float = 0
    ) -> list[Accepted]:
        """Hand in messages over some connections, `rate` a second in all (0: as fast as they are taken)."""
        sessions = min(sessions, count)
        shares = [count // sessions + (number < count % sessions) for number in range(sessions)]
        pause, content = sessions / rate if rate else 0.0, content_of(size)
        firsts = [sum(shares[:number]) for number in range(sessions)]
        with ThreadPoolExecutor(sessions) as threads:
            runs = [
                threads.submit(
                    submit, self.running.smtp, share, content, domain, pause, first, number * pause / sessions
                )
                for number, (share, first) in enumerate(zip(shares, firsts, strict=True))
            ]
            return [one for run in runs for one in run.result()]


def content_of(size: int) -> bytes:
    """A message of `size` octets."""
    head = b"From: <bench@sender.test>\r\nTo: <user@bench.test>\r\nSubject: benchmark\r\n\r\n"
    body = LINE * (size // len(LINE) + 1)
    return head + body[: max(size - len(head) - 2, 0)] + b"\r\n"


def submit(
    server: str,
    count: int,
    content: bytes,
    domain: str,
    pause: float,
    first: int = 0,
    begin_after: float = 0.0,
) -> list[Accepted]:
    """Send `count` messages over one connection, one each `pause` seconds (0: as fast as they are taken)."""
    host, _, port = server.rpartition(":")
    accepted = []
    with smtplib.SMTP(host, int(port), timeout=120) as client:
        client.ehlo()
        start = time.monotonic() + begin_after
        for number in range(count):
            time.sleep(max(0.0, start + number * pause - time.monotonic()))
            begun = time.perf_counter()
            recipient = f"user{first + number}@{domain}"
            client.mail("bench@sender.test", [f"SIZE={len(content)}"])
            client.rcpt(recipient)
            code, words = client.data(content)
            found = QUEUED_AS.search(words)
            if code != 250 or found is None:
                raise SystemExit(f"not accepted: {code} {words.decode(errors='replace')}")
            accepted.append(Accepted(found[1].decode(), recipient, time.perf_counter() - begun))
    return accepted


def sent_at(record: DeliveryRecord) -> float:
    """When the next hop had the message, in epoch seconds."""
    last = record.attempts[-1]
    return last.started.timestamp() + (last.duration or 0)


def wait_until(look: Callable[[], bool], within: float) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + within
    while not look():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
