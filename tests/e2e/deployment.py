"""A deployed relay as a test sees it: mail in, the inbox's files, the ledger, its processes."""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3

from empath.aws.items import delivery_of_item
from empath.domain.records import DeliveryRecord
from empath.local.state import RunningStack, read_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

CHECKOUT = Path(__file__).parents[2]
READY = "empath: ready"
PORTS = ("SMTP", "AWS", "INBOX", "DNS", "SUBMISSION", "SUBMISSIONS", "HEALTH")
STARTS_WITHIN = 240.0
STOPS_WITHIN = 10.0
SENDER = "ann@sender.test"

T = TypeVar("T")


def eventually(look: Callable[[], T | None], *, within: float = 60.0, what: str = "it") -> T:
    """What `look` finds as soon as it finds something; AssertionError when it never does."""
    end = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"{what} did not happen within {within} s"
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Deployment:
    """The local stack of a state directory, started as a user starts it."""

    state_dir: Path
    process: subprocess.Popen[str]
    output: Path

    @classmethod
    @contextmanager
    def running(cls, state_dir: Path) -> Iterator[Deployment]:
        """`empathctl local up` on free ports until the end of the block, which leaves nothing behind."""
        state_dir.mkdir(parents=True, exist_ok=True)
        output = state_dir / "output"
        environment = {
            **os.environ,
            **{f"EMPATH_{name}_PORT": str(free_port()) for name in PORTS},
        }
        with output.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "empath.control", "local", "up", "--state-dir", str(state_dir)],
                cwd=CHECKOUT,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        deployment = cls(state_dir, process, output)
        try:
            deployment.until_ready()
            yield deployment
        finally:
            deployment.stop()

    def until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, f"local up ended:\n{self.output.read_text()}"
            return self.output.read_text().rstrip().endswith(READY)

        eventually(is_ready, within=STARTS_WITHIN, what="empath: ready")

    def stop(self) -> None:
        """SIGTERM, and the promise that goes with it: everything has ended within 10 seconds."""
        started = self.descendants() if self.process.poll() is None else []
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOPS_WITHIN)
        finally:
            left = [pid for pid in started if is_running(pid)]
            for pid in (*left, self.process.pid):
                kill(pid)
        assert code == 0, f"local up ended with {code}:\n{self.output.read_text()}"
        assert not left, f"processes were left behind: {left}"

    @property
    def running_stack(self) -> RunningStack:
        stack = read_state(self.state_dir)
        assert stack is not None
        return stack

    # Mail in.

    def send(self, recipients: Sequence[str], content: bytes, *, sender: str = SENDER) -> str:
        """Hand in one message and return its id, from the words of the 250."""
        host, _, port = self.running_stack.smtp.rpartition(":")
        with smtplib.SMTP(host, int(port), timeout=60) as client:
            return submit(client, recipients, content, sender=sender)

    def until_listening(self) -> None:
        """Until the ingress accepts connections (again)."""
        host, _, port = self.running_stack.smtp.rpartition(":")

        def connects() -> bool:
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
            except OSError:
                return False
            return True

        eventually(connects, what="a listening ingress")

    # Mail out.

    def inbox(self, domain: str) -> list[bytes]:
        """Everything that arrived for a domain, byte for byte."""
        return [path.read_bytes() for path in sorted((self.state_dir / "inbox" / domain / "new").glob("*"))]

    def arrived(self, domain: str, marker: str, *, within: float = 60.0) -> bytes:
        """The first message for a domain with `marker` in it."""

        def look() -> bytes | None:
            return next((content for content in self.inbox(domain) if marker.encode() in content), None)

        return eventually(look, within=within, what=f"mail with {marker} for {domain}")

    # The ledger and what is beside it.

    def deliveries(self, message_id: str) -> dict[str, DeliveryRecord]:
        """The deliveries of a message by destination."""
        answer = self.dynamodb.query(
            TableName=self.running_stack.outputs["DeliveriesTable"],
            KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)",
            ExpressionAttributeValues={":pk": {"S": message_id}, ":sk": {"S": "delivery#"}},
            ConsistentRead=True,
        )
        records = [delivery_of_item(item) for item in answer["Items"]]
        return {record.domain: record for record in records}

    def settled(self, message_id: str, *, within: float = 60.0) -> dict[str, DeliveryRecord]:
        """The deliveries of a message once all of them are settled."""

        def look() -> dict[str, DeliveryRecord] | None:
            found = self.deliveries(message_id)
            return found if found and all(record.is_settled for record in found.values()) else None

        return eventually(look, within=within, what=f"the settling of {message_id}")

    def raw_objects(self) -> set[str]:
        """The ids of all messages whose raw object is in the spool."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.running_stack.outputs["SpoolBucket"], Prefix="messages/"
        )
        return {item["Key"].rpartition("/")[2] for page in pages for item in page.get("Contents", [])}

    def audit_lines(self) -> list[dict[str, Any]]:
        """Every line of the audit trail, without the blocks' headers."""
        bucket = self.running_stack.outputs["AuditBucket"]
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="audit/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        blocks = [self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys]
        return [json.loads(line) for block in blocks for line in block.splitlines()[1:]]

    def queue_size(self, output: str) -> int:
        """Jobs on a queue, visible or not."""
        attributes = self.sqs.get_queue_attributes(
            QueueUrl=self.running_stack.outputs[output], AttributeNames=["All"]
        )["Attributes"]
        return sum(int(value) for name, value in attributes.items() if name.startswith("ApproximateNumber"))

    def empathctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "empath.control", *arguments],
            cwd=CHECKOUT,
            env={**os.environ, "EMPATH_STATE_DIR": str(self.state_dir)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def log_lines(self) -> list[dict[str, object]]:
        """The JSON lines of the ingress and of all functions."""
        lines: list[dict[str, object]] = []
        for path in (self.state_dir / "ingress.log", self.state_dir / "aws" / "aws.log"):
            for line in path.read_text(errors="replace").splitlines():
                if line.startswith("{"):
                    lines.append(json.loads(line))
        return lines

    # Its processes.

    def descendants(self) -> list[int]:
        """Every process below `local up`."""
        listing = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
        children: dict[int, list[int]] = {}
        for line in listing.stdout.splitlines():
            pid, parent = map(int, line.split())
            children.setdefault(parent, []).append(pid)
        found: list[int] = []
        pending = [self.process.pid]
        while pending:
            below = children.get(pending.pop(), [])
            found += below
            pending += below
        return found

    def processes(self, pattern: str) -> list[int]:
        """Descendants whose command line has `pattern` in it."""
        command = ["ps", "-eww", "-o", "pid=,args="]
        listing = subprocess.run(command, capture_output=True, text=True, check=True)
        ours = set(self.descendants())
        found = []
        for line in listing.stdout.splitlines():
            pid, _, arguments = line.strip().partition(" ")
            if int(pid) in ours and re.search(pattern, arguments):
                found.append(int(pid))
        return found

    @property
    def dynamodb(self) -> DynamoDBClient:
        client: DynamoDBClient = self._client("dynamodb")
        return client

    @property
    def sqs(self) -> SQSClient:
        client: SQSClient = self._client("sqs")
        return client

    @property
    def s3(self) -> S3Client:
        client: S3Client = self._client("s3")
        return client

    @property
    def functions(self) -> LambdaClient:
        client: LambdaClient = self._client("lambda")
        return client

    def _client(self, service: str) -> Any:
        stack = self.running_stack
        session = boto3.Session("test", "test", region_name=stack.region)
        make: Callable[..., Any] = session.client
        return make(service, endpoint_url=stack.endpoint_url)


def submit(client: smtplib.SMTP, recipients: Sequence[str], content: bytes, *, sender: str = SENDER) -> str:
    """One transaction; the message id. Raises AssertionError unless every reply is positive."""
    assert client.ehlo()[0] == 250
    assert client.mail(sender, ["BODY=8BITMIME"])[0] == 250
    for recipient in recipients:
        code, words = client.rcpt(recipient)
        assert code == 250, (recipient, code, words)
    code, words = client.data(content)
    assert code == 250, (code, words)
    found = re.search(rb"\b[0-9A-HJKMNP-TV-Z]{26}\b", words)
    assert found is not None, words
    return found.group().decode()


def without_trace(content: bytes) -> bytes:
    """A delivered message without the trace header in front of it."""
    lines = content.split(b"\r\n")
    assert lines[0].startswith(b"Received: "), lines[0]
    end = next(number for number in range(1, len(lines)) if not lines[number].startswith((b" ", b"\t")))
    return b"\r\n".join(lines[end:])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
