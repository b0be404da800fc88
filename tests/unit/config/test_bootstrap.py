"""The composition root: the right adapters, made once, and no room entered without need."""

import asyncio
import gc
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from empath.aws.session import AwsSession
from empath.bootstrap import Ports, Runtime
from empath.bootstrap.ingress import open_ingress
from empath.config.environment import ConfigError
from empath.config.functions import FunctionConfig
from empath.config.ingress import IngressConfig
from empath.net import resolver
from empath.observe.metrics import EmfMetrics
from empath.testing.certificates import self_signed

ENVIRONMENT = {
    "EMPATH_FUNCTION": "deliver",
    "EMPATH_SPOOL_BUCKET": "spool",
    "EMPATH_DELIVERY_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/delivery",
    "EMPATH_DELIVERIES_TABLE": "deliveries",
    "EMPATH_CONTROL_TABLE": "control",
    "EMPATH_HOSTNAME": "relay.example.com",
}


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime(FunctionConfig.from_environment(ENVIRONMENT))
    yield runtime
    runtime.close()


def test_every_port_is_made_once(runtime: Runtime) -> None:
    for name in ("spool", "queue", "group_commit", "ledger", "control", "resolver", "dialer"):
        made = getattr(runtime.ports, name)
        assert getattr(runtime.ports, name) is made
    assert runtime.ports.hostname == "relay.example.com"


def test_warm_invocations_share_one_loop(runtime: Runtime) -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert runtime.run(loop()) is runtime.run(loop())


def test_counters_are_written_after_an_invocation_that_fails_too(
    runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work() -> None:
        runtime.metrics.count("sent")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        runtime.run(work())
    assert json.loads(capsys.readouterr().out)["sent"] == [1.0]


def test_on_the_loop_a_port_has_to_be_opened_first(runtime: Runtime) -> None:
    async def work() -> object:
        with pytest.raises(RuntimeError, match="is not open"):
            _ = runtime.ports.spool
        await runtime.ports.open("spool")
        return runtime.ports.spool

    assert runtime.run(work()) is runtime.ports.spool


@pytest.mark.parametrize(
    ("port", "variable"),
    [
        ("spool", "EMPATH_SPOOL_BUCKET"),
        ("queue", "EMPATH_ACCEPTED_QUEUE_URL"),
        ("group_commit", "EMPATH_ACCEPTED_QUEUE_URL"),
        ("ledger", "EMPATH_DELIVERIES_TABLE"),
        ("control", "EMPATH_CONTROL_TABLE"),
        ("dialer", "EMPATH_HOSTNAME"),
    ],
)
async def test_a_port_without_its_settings_names_the_variable(port: str, variable: str) -> None:
    ports = Ports(FunctionConfig.from_environment({}), metrics=EmfMetrics("x"))
    with pytest.raises(ConfigError, match=variable):
        await ports.open(port)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "AWS_REGION is not set"),
        ({"AWS_REGION": "no region"}, "no region"),
        ({"AWS_REGION": "eu-west-1", "AWS_PROFILE": "nobody"}, "nobody"),
        ({"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "garbage"}, "garbage"),
    ],
)
async def test_aws_settings_that_are_missing_or_wrong_are_told_before_any_request(
    environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ports = Ports(FunctionConfig.from_environment(ENVIRONMENT), metrics=EmfMetrics("x"))
    with pytest.raises(ConfigError, match=words):
        await ports.open("spool")


async def test_the_region_of_aws_region_counts_before_the_default_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # botocore itself reads only AWS_DEFAULT_REGION; every other SDK, and our own messages, say AWS_REGION.
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    async with AwsSession() as session:
        assert (await session.s3()).meta.region_name == "eu-west-1"


async def test_the_ingress_gets_its_parts_and_writes_its_counters(capsys: pytest.CaptureFixture[str]) -> None:
    config = IngressConfig.from_environment(
        {**ENVIRONMENT, "EMPATH_ACCEPTED_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/accepted"}
    )
    async with open_ingress(config) as parts:
        parts.metrics.count("received")
        assert parts.ids.new_id() != parts.ids.new_id()
    assert json.loads(capsys.readouterr().out)["received"] == [1.0]


INGRESS = {**ENVIRONMENT, "EMPATH_ACCEPTED_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/accepted"}


async def test_the_ingress_has_users_where_there_is_a_control_table_and_tls_where_there_is_a_certificate(
    tmp_path: Path,
) -> None:
    path = tmp_path / "both.pem"
    path.write_bytes(b"".join(self_signed("mx.example")))
    pair = {"EMPATH_TLS_CERTIFICATE": str(path), "EMPATH_TLS_KEY": str(path)}
    bare = {name: value for name, value in INGRESS.items() if name != "EMPATH_CONTROL_TABLE"}
    async with open_ingress(IngressConfig.from_environment(bare)) as parts:
        assert (parts.settings.authenticator, parts.settings.users, parts.settings.quotas) == (None,) * 3
        assert parts.settings.tls is None
    control = {"EMPATH_CONTROL_TABLE": "control"}
    async with open_ingress(IngressConfig.from_environment(bare | control | pair)) as parts:
        assert None not in (parts.settings.authenticator, parts.settings.users, parts.settings.quotas)
        assert parts.settings.tls is not None
        assert parts.settings.tls.context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_a_certificate_that_cannot_be_used_is_named_with_its_settings() -> None:
    pair = {"EMPATH_TLS_CERTIFICATE": "/nowhere/a.pem", "EMPATH_TLS_KEY": "/nowhere/b.pem"}
    says = "^EMPATH_TLS_CERTIFICATE and EMPATH_TLS_KEY: cannot read /nowhere/a.pem: No such file or directory"
    with pytest.raises(ConfigError, match=says):
        async with open_ingress(IngressConfig.from_environment(INGRESS | pair)):
            pass


@pytest.mark.parametrize(
    ("ports", "strangers"),
    [
        ((), {"aiobotocore", "botocore.session", "dns", "aiosmtplib", "aws_xray_sdk", "boto3"}),
        (("ledger", "spool", "queue"), {"dns", "aiosmtplib", "aws_xray_sdk", "boto3"}),
        (("resolver",), {"dns", "aiosmtplib"}),
    ],
)
def test_only_what_is_used_is_imported(ports: tuple[str, ...], strangers: set[str]) -> None:
    program = (
        f"import sys; from empath.bootstrap import functions_runtime\n"
        f"runtime = functions_runtime({ENVIRONMENT!r})\n"
        f"[getattr(runtime.ports, name) for name in {ports!r}]\n"
        f"runtime.close()\n"
        f"print(*sorted({strangers!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(("setting", "sharing"), [("shared", "both"), ("memory", "none"), ("", "both")])
async def test_dns_answers_are_shared_unless_a_setting_says_otherwise(
    setting: str, sharing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, object] = {}
    monkeypatch.setattr(resolver, "DnsResolver", lambda *_, **given: made.update(given))
    config = FunctionConfig.from_environment({**ENVIRONMENT, "EMPATH_DNS_CACHE": setting})
    ports = Ports(config, metrics=EmfMetrics("x"))
    await ports.open("resolver")
    await ports.close()
    assert (made["sharing"], type(made["cache"]).__name__) == (sharing, "DynamoDnsCache")


def test_what_is_ours_is_told_by_a_setting() -> None:
    config = FunctionConfig.from_environment({"EMPATH_OWN_ADDRESSES": "93.184.216.1, 2606::/64"})
    networks = Ports(config, metrics=EmfMetrics("x")).own_addresses
    assert [str(network) for network in networks] == ["93.184.216.1/32", "2606::/64"]


def test_dns_is_asked_by_a_process_without_a_control_table_and_without_aws() -> None:
    program = (
        "import asyncio, sys; from empath.bootstrap import Ports\n"
        "from empath.config.functions import FunctionConfig; from empath.observe.metrics import EmfMetrics\n"
        "config = FunctionConfig.from_environment({'EMPATH_NAMESERVERS': '127.0.0.1:1'})\n"
        "ports = Ports(config, metrics=EmfMetrics('x'))\n"
        "asyncio.run(ports.open('resolver'))\n"
        "print(*sorted({'aiobotocore', 'dns'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(("name", "resting"), [("deliver", False), ("", True)])
def test_the_collector_rests_in_lambda_alone_and_only_while_a_door_is_imported(
    name: str, resting: bool
) -> None:
    program = (
        f"import gc, os; {name!r} and os.environ.__setitem__('AWS_LAMBDA_FUNCTION_NAME', {name!r})\n"
        f"from empath.bootstrap import functions_runtime; during = gc.isenabled()\n"
        f"runtime = functions_runtime({ENVIRONMENT!r}); after = gc.isenabled()\n"
        f"runtime.ports.ledger\n"
        f"print(during, after, gc.isenabled(), gc.get_freeze_count() > 10_000)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(resting), "True", "True", "True"]


def test_ports_that_are_open_keep_nothing_from_the_collector(runtime: Runtime) -> None:
    runtime.run(runtime.ports.open("ledger"))
    kept = gc.get_freeze_count()
    runtime.run(runtime.ports.open("ledger"))
    assert gc.get_freeze_count() <= kept


async def test_clients_verify_servers_with_one_store_of_certificates() -> None:
    async with AwsSession(region_name="us-east-1") as session:
        clients: list[Any] = [await session.s3(), await session.dynamodb()]
        contexts = [client._endpoint.http_session._build_ssl_contexts(None) for client in clients]
    assert contexts[0] is contexts[1]
    assert contexts[0][0].verify_mode is ssl.CERT_REQUIRED
    assert contexts[0][0].check_hostname
