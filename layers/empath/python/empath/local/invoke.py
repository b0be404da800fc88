"""Handing an event to a function of the running local stack, for a look at what it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from empath.local.errors import LocalStackError
from empath.local.state import RunningStack

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

QUEUE_OF_FUNCTION = {"resolve": "accepted", "deliver": "delivery", "dsn": "dsn"}


def read_event(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises LocalStackError that says what the file holds instead."""
    try:
        event = json.loads(path.read_text())
    except OSError as error:
        raise LocalStackError(f"{path} cannot be read ({error.strerror})", "events/ has some") from None
    except ValueError as error:
        raise LocalStackError(f"{path} is no JSON ({error})", "events/ has some") from None
    if not isinstance(event, dict):
        raise LocalStackError(f"{path} holds no JSON object", "events/ has some")
    return event


def invoke(stack: RunningStack, function: str, event: dict[str, Any]) -> str:
    """What `function` returns for `event`, as JSON text.

    Queue names in the event are replaced by those of this deployment, so that the events of the
    repository fit every stack. Raises LocalStackError with the function's error.
    """
    session = boto3.Session("test", "test", region_name=stack.region)
    client: LambdaClient = session.client("lambda", endpoint_url=stack.endpoint_url)
    try:
        answer = client.invoke(
            FunctionName=stack.outputs[f"{function.capitalize()}Function"],
            Payload=json.dumps(_addressed(event, stack, function)),
        )
        result = answer["Payload"].read().decode()
    except (BotoCoreError, ClientError) as error:
        raise LocalStackError(f"{function} could not be invoked ({error})", "is the stack up?") from None
    if answer.get("FunctionError"):
        raise LocalStackError(f"{function} failed: {result}", "see aws/aws.log in the state directory")
    return result


def _addressed(event: dict[str, Any], stack: RunningStack, function: str) -> dict[str, Any]:
    queue = QUEUE_OF_FUNCTION.get(function)
    if queue is None or not isinstance(event.get("Records"), list):
        return event
    name = stack.outputs[f"{queue.capitalize()}QueueUrl"].rpartition("/")[2]
    arn = f"arn:aws:sqs:{stack.region}:000000000000:{name}"
    return {**event, "Records": [{**record, "eventSourceARN": arn} for record in event["Records"]]}
