"""Cold starts: CPU of a function's process until it is ready, and until its first message is out.

    .venv/bin/python -m benchmarks.cold_start [--rounds 7] [--sizes]

Each figure is the median over fresh processes that see nothing but the layers, built as for the local stack.
The first call of `deliver` is a real one: tables, queues and bucket in moto, the MX from a name server and
the message to an SMTP server, all on loopback; what was put off until then is in it. `--sizes` builds the
layers for Lambda, too, which fetches wheels.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import statistics
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from moto.server import ThreadedMotoServer

from benchmarks.aws_calls import Counted
from benchmarks.aws_requests import CREDENTIALS
from empath.aws.control import DynamoControl
from empath.aws.session import AwsSession
from empath.ports import QueueName
from empath.system import SystemClock
from empath.testing.dns_server import DnsServer
from empath.testing.metrics import CountedMetrics
from empath.testing.smtp_sink import SmtpSink
from empath.testing.zones import Node
from infra import packaging
from infra.settings import Settings

GOAL = 300 / 390
"""Of the naive set's CPU: what the two were when the goal was set, on one machine."""

PORTS = {
    "deliver": ("spool", "queue", "ledger", "control", "gatekeeper", "slow_sites", "routes"),
    "resolve": ("spool", "queue", "ledger", "control", "resolver", "suppressions"),
    "retry": ("spool", "queue", "ledger", "control", "resolver", "suppressions"),
    "dsn": ("spool", "queue", "ledger", "control", "quotas"),
    "journal": ("spool", "ledger", "audit", "events", "control", "suppressions"),
}
"""What each door opens."""

NAIVE = """
import json, resource, sys
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1000
steps = {"interpreter": cpu()}
def step(name):
    steps[name] = cpu() - sum(steps.values())
import boto3
for name in ("s3", "sqs", "dynamodb"):
    boto3.client(name, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
step("boto3, three clients")
import aws_xray_sdk.core
step("aws_xray_sdk")
from aws_lambda_powertools import Logger, Metrics, Tracer
Logger(service="x"), Metrics(namespace="x", service="x"), Tracer(service="x", disabled=True)
step("Powertools")
import pydantic; pydantic.BaseModel
step("pydantic")
import dns.asyncresolver
step("dnspython")
print(json.dumps({"steps": steps}))
"""


class Bench:
    def __init__(self, layers: Path, relay: Counted, environment: dict[str, str], rounds: int) -> None:
        self._layers = layers
        self._relay = relay
        self._environment = environment
        self._rounds = rounds
        self._messages = 0

    async def medians(self, function: str, *, bytecode: bool = True, call: bool = False) -> dict[str, float]:
        runs = [(await self._run(function, bytecode, call))["steps"] for _ in range(self._rounds)]
        return _medians(runs)

    async def parts(self, function: str) -> Counter[str]:
        """Packages by CPU; looking costs something, so they add up to more than the door and its clients."""
        runs = [(await self._run(function, True, True, parts=True))["parts"] for _ in range(self._rounds)]
        return Counter({name: statistics.median(run.get(name, 0.0) for run in runs) for name in runs[0]})

    async def naive(self) -> dict[str, float]:
        return _medians([(await _child(("-I", "-c", NAIVE), {}))["steps"] for _ in range(self._rounds)])

    async def _run(self, function: str, bytecode: bool, call: bool, parts: bool = False) -> dict[str, Any]:
        layers = self._layers / ("compiled" if bytecode else "sources")
        records = await self._jobs(2) if call else []
        order = {
            "environment": self._environment | {"EMPATH_FUNCTION": function},
            "paths": [str(packaging.ROOT / "functions" / function)]
            + [str(layers / name / "python") for name in ("library", "dependencies")],
            "ports": PORTS[function],
            "event": {"Records": records[:1]} if call else None,
            "again": records[1:],
            "parts": parts,
        }
        program = str(Path(__file__).with_name("cold_process.py"))
        return await _child(("-I", "-S", "-B", program), order)

    async def _jobs(self, number: int) -> list[dict[str, Any]]:
        """Delivery jobs as Lambda hands them in."""
        for _ in range(number):
            self._messages += 1
            await self._relay.accept(self._messages, "good.test", 1)
        await self._relay.drain(QueueName.ACCEPTED)
        url = self._relay.urls[QueueName.DELIVERY]
        answer = await self._relay.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=number)
        return [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": {"ApproximateReceiveCount": "1"},
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:delivery",
            }
            for message in answer["Messages"]
        ]


async def _child(arguments: tuple[str, ...], order: dict[str, Any]) -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate(json.dumps(order).encode())
    if child.returncode:
        raise SystemExit(f"a process failed:\n{err.decode()}")
    *logged, last = out.decode().splitlines()
    told: dict[str, Any] = json.loads(last)
    if (told.get("answer") or {}).get("batchItemFailures"):
        raise SystemExit("\n".join(["the first call failed:", *logged]))
    return told


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def build(target: packaging.Target, output: Path) -> None:
    packaging.build_dependencies(target, output / "dependencies")
    packaging.build_library(target, output / "library")


def sizes(name: str, layers: Path, target: packaging.Target) -> list[str]:
    """Bytes of both layers and of a function's own code, plain and zipped."""
    trees = [(part, layers / part) for part in ("dependencies", "library")]
    trees.append(("function deliver", packaging.ROOT / "functions/deliver"))
    lines = [f"{name}, bytecode: {'yes' if target.compiler() else 'no, for want of an interpreter'}"]
    for part, root in trees:
        with tempfile.TemporaryFile() as archive:
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
                files = [path for path in sorted(root.rglob("*")) if path.is_file()]
                if part.startswith("function"):
                    files = [path for path in files if path.suffix != ".pyc"]
                for path in files:
                    zipped.write(path, path.relative_to(root))
            plain, packed = sum(path.stat().st_size for path in files), archive.tell()
        lines.append(f"  {part:20} {plain / 1e6:7.2f} MB {packed / 1e6:7.2f} MB zipped")
    return lines


def _row(name: str, steps: dict[str, float]) -> str:
    ready = sum(cpu for step, cpu in steps.items() if step in ("door", "clients"))
    called = f"{steps['first call']:10.0f}{steps['second call']:6.0f}" if "first call" in steps else ""
    return f"{name:28}{steps['door']:8.0f}{steps['clients']:8.0f}{ready:8.0f}{called}"


async def measure(endpoint: str, layers: Path, rounds: int) -> tuple[list[str], bool]:
    zones = {"good.test": Node(mx=[(10, "mx.good.test")]), "mx.good.test": Node(a=["127.0.0.1"])}
    dns = DnsServer(zones)
    await dns.start()
    async with AwsSession(endpoint_url=endpoint, **CREDENTIALS) as session, SmtpSink() as sink:
        relay = Counted(session, dns.nameserver)
        await relay.open()
        relay.requests.counting = False
        policy = {"allow_addresses": ["127.0.0.0/8"], "port": sink.port}
        control = DynamoControl(
            await session.dynamodb(), "control", clock=SystemClock(), metrics=CountedMetrics()
        )
        await control.set_policy("*", policy)
        environment = {
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "EMPATH_SPOOL_BUCKET": "spool",
            "EMPATH_DELIVERIES_TABLE": "deliveries",
            "EMPATH_CONTROL_TABLE": "control",
            "EMPATH_ACCEPTED_QUEUE_URL": relay.urls[QueueName.ACCEPTED],
            "EMPATH_DELIVERY_QUEUE_URL": relay.urls[QueueName.DELIVERY],
            "EMPATH_DELIVERY_SLOW_QUEUE_URL": relay.urls[QueueName.DELIVERY_SLOW],
            "EMPATH_RETRY_QUEUE_URL": relay.urls[QueueName.RETRY],
            "EMPATH_DSN_QUEUE_URL": relay.urls[QueueName.DSN],
            "EMPATH_HOSTNAME": "relay.test",
            "EMPATH_NAMESERVERS": dns.nameserver,
        }
        bench = Bench(layers, relay, environment, rounds)
        naive = await bench.naive()
        deliver = await bench.medians("deliver", call=True)
        lines = [
            f"CPU, milliseconds, median of {rounds} fresh processes, Python {sys.version.split()[0]}; without"
            f" the interpreter's own start ({deliver['interpreter']:.0f})",
            "",
            f"{'':28}{'imports':>8}{'clients':>8}{'ready':>8}{'1st call':>10}{'2nd':>6}",
            _row("deliver", deliver),
            _row("deliver without bytecode", await bench.medians("deliver", bytecode=False, call=True)),
        ]
        lines += [_row(name, await bench.medians(name)) for name in PORTS if name != "deliver"]
        lines += ["", "deliver's largest parts, imports of the first call included:"]
        lines += [f"  {name:24}{cpu:6.0f}" for name, cpu in (await bench.parts("deliver")).most_common(10)]
        whole = sum(naive.values()) - naive["interpreter"]
        lines += ["", f"the naive set{whole:23.0f}"]
        lines += [f"  {name:24}{cpu:6.0f}" for name, cpu in naive.items() if name != "interpreter"]
    ready = deliver["door"] + deliver["clients"]
    held = ready <= GOAL * whole
    lines += [
        "",
        f"deliver is ready after {ready:.0f}, {ready / whole:.2f} of the naive set (goal: {GOAL:.2f})",
    ]
    return lines, held


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start")
    parser.add_argument("--rounds", type=int, default=7, help="processes per figure (default 7)")
    parser.add_argument("--sizes", action="store_true", help="build for Lambda, too, and show sizes")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be 1 or more")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    local = packaging.Target.of(Settings.from_context({"profile": "local"}))
    with tempfile.TemporaryDirectory() as directory:
        layers = Path(directory)
        build(local, layers / "compiled")
        shutil.copytree(layers / "compiled", layers / "sources", ignore=shutil.ignore_patterns("__pycache__"))
        try:
            host, port = server.get_host_and_port()
            lines, held = asyncio.run(measure(f"http://{host}:{port}", layers, given.rounds))
        finally:
            server.stop()
        lines += ["", *sizes("layers for this machine", layers / "compiled", local)]
        if given.sizes:
            target = packaging.Target.of(Settings.from_context({}))
            build(target, layers / "lambda")
            lines += sizes(f"layers for Lambda ({target.platform})", layers / "lambda", target)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
