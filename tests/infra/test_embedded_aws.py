"""The embedded AWS: starts, keeps its state, and leaves nothing behind."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from empath.local.deploy import Deployment, StackOutputs, deploy
from empath.local.embedded_aws import REGION, EmbeddedAws, Options, embedded_aws
from empath.local.errors import LocalStackError


@pytest.fixture
def port() -> Iterator[int]:
    yield _free_port()


async def test_state_survives_a_stop_and_a_change_of_port(tmp_path: Path, port: int) -> None:
    async with embedded_aws(Options(tmp_path, port)) as aws:
        url = _client(aws, "sqs").create_queue(QueueName="jobs")["QueueUrl"]
        assert f":{port}/" in url
        _client(aws, "sqs").send_message(QueueUrl=url, MessageBody="a job")
        _client(aws, "s3").create_bucket(Bucket="spool")
        _client(aws, "s3").put_object(Bucket="spool", Key="a", Body=b"mail")
    async with embedded_aws(Options(tmp_path, _free_port())) as aws:
        url = _client(aws, "sqs").get_queue_url(QueueName="jobs")["QueueUrl"]
        assert f":{aws.options.port}/" in url
        (message,) = _client(aws, "sqs").receive_message(QueueUrl=url)["Messages"]
        assert message["Body"] == "a job"
        assert _client(aws, "s3").get_object(Bucket="spool", Key="a")["Body"].read() == b"mail"


async def test_a_kill_loses_only_what_came_after_the_last_checkpoint(tmp_path: Path, port: int) -> None:
    async with embedded_aws(Options(tmp_path, port)) as aws:
        _client(aws, "sqs").create_queue(QueueName="jobs")
        await aws.checkpoint()
        written = aws.options.home / "state" / "sqs.json"
        async with asyncio.timeout(10):
            while not written.exists() or "jobs" not in written.read_text():
                await asyncio.sleep(0.05)
        os.kill(aws.pid, signal.SIGKILL)
        await aws.wait()
    async with embedded_aws(Options(tmp_path, port)) as aws:
        assert _client(aws, "sqs").get_queue_url(QueueName="jobs")["QueueUrl"]


async def test_after_a_kill_before_any_checkpoint_it_begins_anew(tmp_path: Path, port: int) -> None:
    # Objects are on disk at once: a bucket that outlived its stack would stop the next deployment.
    async with embedded_aws(Options(tmp_path, port)) as aws:
        _client(aws, "s3").create_bucket(Bucket="spool")
        os.kill(aws.pid, signal.SIGKILL)
        await aws.wait()
    async with embedded_aws(Options(tmp_path, port)) as aws:
        assert _client(aws, "s3").list_buckets()["Buckets"] == []


async def test_state_survives_a_stop_that_does_not_wait_for_an_open_request(
    tmp_path: Path, port: int
) -> None:
    aws = await EmbeddedAws.start(Options(tmp_path, port))
    url = _client(aws, "sqs").create_queue(QueueName="jobs")["QueueUrl"]
    _client(aws, "sqs").create_queue(QueueName="empty")
    _client(aws, "sqs").send_message(QueueUrl=url, MessageBody="a job")
    poll = asyncio.create_task(asyncio.to_thread(_poll, aws))
    await asyncio.sleep(0.5)
    await aws.stop(within=3)
    await poll
    async with embedded_aws(Options(tmp_path, port)) as aws:
        assert _client(aws, "sqs").receive_message(QueueUrl=url)["Messages"]


async def test_stopping_ends_every_process_and_the_next_start_removes_their_files(
    tmp_path: Path, port: int
) -> None:
    aws = await EmbeddedAws.start(Options(tmp_path, port))
    group = aws.pid
    os.killpg(group, 0)
    await aws.stop()
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    await aws.stop()
    (aws.options.home / "tmp" / "left").touch()
    async with embedded_aws(Options(tmp_path, port)):
        assert not (aws.options.home / "tmp" / "left").exists()


async def test_it_ends_with_its_parent_however_that_dies(tmp_path: Path, port: int) -> None:
    program = f"""
        import asyncio
        from pathlib import Path
        from empath.local.embedded_aws import EmbeddedAws, Options
        async def main():
            aws = await EmbeddedAws.start(Options(Path({str(tmp_path)!r}), {port}))
            print("started", flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"started\n"
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    async with asyncio.timeout(10):
        while _listens(port):
            await asyncio.sleep(0.05)


async def test_a_port_in_use_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalStackError, match=rf"port {port} .*EMPATH_AWS_PORT"):
            await EmbeddedAws.start(Options(tmp_path, port))


async def test_an_environment_that_is_not_installed_is_a_clear_error(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("infra", "functions"):
        (tmp_path / name).mkdir()
    (tmp_path / "cdk.json").write_text("{}")
    monkeypatch.setenv("EMPATH_CHECKOUT", str(tmp_path))
    with pytest.raises(LocalStackError, match="make setup"):
        await EmbeddedAws.start(Options(tmp_path, port))


async def test_deploying_where_no_aws_answers_is_a_clear_error(tmp_path: Path, port: int) -> None:
    with pytest.raises(LocalStackError, match=f"no AWS answers at http://127.0.0.1:{port}"):
        await deploy(Deployment(f"http://127.0.0.1:{port}", tmp_path))


def test_outputs_become_the_environment_of_a_process() -> None:
    names = ("Accepted", "Delivery", "DeliveryHigh", "DeliveryBulk", "DeliverySlow", "Retry", "Dsn")
    outputs = {"SpoolBucket": "b", "DeliveriesTable": "d", "ControlTable": "c"}
    outputs |= {f"{name}QueueUrl": name for name in names}
    outputs |= {f"{name}DeadLetterQueueUrl": name for name in (*names, "Journal")}
    outputs |= {f"{name}Function": name for name in ("Resolve", "Deliver", "Retry", "Dsn", "Journal")}
    environment = StackOutputs.of(outputs).environment()
    assert environment["EMPATH_SPOOL_BUCKET"] == "b"
    assert environment["EMPATH_RETRY_QUEUE_URL"] == "Retry"
    assert environment["EMPATH_DELIVERY_HIGH_QUEUE_URL"] == "DeliveryHigh"


def _client(aws: EmbeddedAws, service: Any) -> Any:
    return boto3.client(
        service,
        endpoint_url=aws.endpoint_url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


def _poll(aws: EmbeddedAws) -> None:
    sqs = _client(aws, "sqs")
    with contextlib.suppress(BotoCoreError, ClientError):
        sqs.receive_message(QueueUrl=sqs.get_queue_url(QueueName="empty")["QueueUrl"], WaitTimeSeconds=20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
