"""Which deployment a command talks to: the local stack first, then AWS by its stacks' outputs."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from empath.control.errors import ControlError
from empath.control.queue_reading import read_depths
from empath.control.target import find_target
from empath.local.state import RunningStack, write_state
from empath.ports import QueueName

TEMPLATE = {
    "Resources": {"Live": {"Type": "AWS::SQS::Queue"}, "Dead": {"Type": "AWS::SQS::Queue"}},
    "Outputs": {
        "DeliveriesTable": {"Value": "deliveries"},
        "RetryQueueUrl": {"Value": {"Ref": "Live"}},
        "RetryDeadLetterQueueUrl": {"Value": {"Ref": "Dead"}},
    },
}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty AWS account."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield


@pytest.fixture
def deployed(aws: None) -> None:
    boto3.client("cloudformation").create_stack(StackName="EmpathStorage", TemplateBody=json.dumps(TEMPLATE))


def test_a_running_local_stack_comes_first(tmp_path: Path) -> None:
    outputs = {"DeliveriesTable": "local"}
    stack = RunningStack(os.getpid(), "http://127.0.0.1:4566", "us-east-1", "h:2525", "i:1", "d:1", outputs)
    write_state(tmp_path, stack)
    target = find_target(tmp_path)
    assert target.output("DeliveriesTable") == "local"
    assert target.client_arguments["endpoint_url"] == "http://127.0.0.1:4566"
    assert target.smtp == "h:2525"


@pytest.mark.usefixtures("deployed")
def test_without_one_the_outputs_of_the_stacks_name_everything(tmp_path: Path) -> None:
    target = find_target(tmp_path)
    assert target.output("DeliveriesTable") == "deliveries"
    assert target.client_arguments == {}
    assert target.description == "AWS in eu-west-1"


@pytest.mark.usefixtures("deployed")
def test_the_region_may_be_named_by_aws_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    target = find_target(tmp_path)
    assert target.description == "AWS in eu-west-1"
    assert len(read_depths(target)) == 2


@pytest.mark.usefixtures("aws")
def test_an_endpoint_that_is_no_url_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "garbage")
    with pytest.raises(ControlError, match="garbage"):
        find_target(tmp_path)


@pytest.mark.usefixtures("aws")
def test_an_account_without_the_stacks_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no stack EmpathStorage in eu-west-1"):
        find_target(tmp_path)


@pytest.mark.usefixtures("aws")
def test_a_profile_that_does_not_exist_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ControlError, match="nobody"):
        find_target(tmp_path)


@pytest.mark.usefixtures("deployed")
def test_an_output_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no output ControlTable"):
        find_target(tmp_path).output("ControlTable")


@pytest.mark.usefixtures("deployed")
def test_the_depths_are_those_of_the_queues_that_there_are(tmp_path: Path) -> None:
    target = find_target(tmp_path)
    sqs = boto3.client("sqs")
    sqs.send_message(QueueUrl=target.output("RetryQueueUrl"), MessageBody="1")
    sqs.send_message(QueueUrl=target.output("RetryQueueUrl"), MessageBody="2", DelaySeconds=900)
    sqs.send_message(QueueUrl=target.output("RetryDeadLetterQueueUrl"), MessageBody="3")
    live, dead = read_depths(target)
    assert (live.queue, live.is_dead, live.visible, live.delayed) == (QueueName.RETRY, False, 1, 1)
    assert (dead.queue, dead.is_dead, dead.visible) == (QueueName.RETRY, True, 1)
