"""An application that hears of its mail: a rule on the event bus, and a queue that it fills.

Whoever deploys to AWS makes such a rule of his own (docs/AUDIT.md); here it is there from the start.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from empath.domain.lifecycle import SOURCE
from empath.local.errors import LocalStackError

if TYPE_CHECKING:
    from empath.local.state import RunningStack

NAME = "empath-local-events"
"""Of the rule and of the queue."""

BATCH: Any = 10
WAIT: Any = 1
"""Seconds."""


def listen(endpoint_url: str, region: str, bus: str) -> None:
    """Let the queue have every event of `bus`; again is success. Raises LocalStackError."""
    try:
        sqs, events = _client("sqs", endpoint_url, region), _client("events", endpoint_url, region)
        url = sqs.create_queue(QueueName=NAME)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(_policy(arn))})
        events.put_rule(Name=NAME, EventBusName=bus, EventPattern=json.dumps({"source": [SOURCE]}))
        events.put_targets(Rule=NAME, EventBusName=bus, Targets=[{"Id": NAME, "Arn": arn}])
    except (BotoCoreError, ClientError) as error:
        raise LocalStackError(f"nobody can listen to the event bus ({error})") from None


def told(stack: RunningStack) -> Iterator[dict[str, Any]]:
    """The events that came since they were last asked for, as the bus has them, and no more again.

    Raises LocalStackError.
    """
    sqs = _client("sqs", stack.endpoint_url, stack.region)
    try:
        url = sqs.get_queue_url(QueueName=NAME)["QueueUrl"]
        while True:
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=WAIT)
            messages = answer.get("Messages", [])
            if not messages:
                return
            for message in messages:
                yield json.loads(message["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    except (BotoCoreError, ClientError) as error:
        raise LocalStackError(f"the events cannot be read ({error})", "is the stack up?") from None


def _policy(queue: str) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue,
            }
        ],
    }


def _client(service: str, endpoint_url: str, region: str) -> Any:
    session: Any = boto3.Session("test", "test", region_name=region)
    return session.client(service, endpoint_url=endpoint_url)
