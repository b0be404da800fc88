"""Jobs that nobody can read, and jobs that come more than once."""

from __future__ import annotations

import json

import pytest

from empath.domain.delivery_state import State
from empath.domain.reason import Reason
from empath.pipeline.jobs import DeliveryJob
from tests.e2e.deployment import CHECKOUT, Deployment, eventually

pytestmark = pytest.mark.e2e

CONTENT = b"Subject: jobs\r\n\r\nHello.\r\n"


@pytest.mark.parametrize("body", ['{"v": 99, "message_id": "X"}', "{ this is not JSON"])
def test_an_unreadable_job_ends_in_the_dead_letter_queue_and_its_neighbours_are_delivered(
    deployment: Deployment, body: str
) -> None:
    outputs = deployment.running_stack.outputs
    before = deployment.queue_size("DeliveryDeadLetterQueueUrl")
    deployment.sqs.send_message(QueueUrl=outputs["DeliveryQueueUrl"], MessageBody=body)
    message_id = deployment.send(["bob@neighbour.test"], CONTENT)
    (record,) = deployment.settled(message_id).values()
    assert record.status is State.SENT
    eventually(
        lambda: deployment.queue_size("DeliveryDeadLetterQueueUrl") == before + 1,
        within=60,
        what="the unreadable job's arrival in the dead-letter queue",
    )
    assert any(
        line.get("message") == "unreadable job" and line["function"] == "deliver"
        for line in deployment.log_lines()
    )


def test_a_duplicated_delivery_job_sends_nothing_twice(deployment: Deployment) -> None:
    message_id = deployment.send(["bob@twice.test"], CONTENT)
    (record,) = deployment.settled(message_id).values()
    job = DeliveryJob(message_id=message_id, delivery=record.delivery, attempt=1)
    for _ in range(5):
        deployment.sqs.send_message(
            QueueUrl=deployment.running_stack.outputs["DeliveryQueueUrl"], MessageBody=job.encode()
        )
    # Another message through the same queue, behind the copies.
    deployment.settled(deployment.send(["bob@behind.test"], CONTENT))
    eventually(lambda: deployment.queue_size("DeliveryQueueUrl") == 0, what="an empty queue")
    assert len(deployment.inbox("twice.test")) == 1


NOTHING_FAILED: dict[str, list[object]] = {"batchItemFailures": []}


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        ("deliver", NOTHING_FAILED),
        ("dsn", NOTHING_FAILED),
        ("journal", None),
        ("resolve", NOTHING_FAILED),
        ("retry", {"queued": 0, "revived": 0}),
    ],
)
def test_a_function_can_be_invoked_with_its_event_of_the_repository(
    deployment: Deployment, function: str, answer: object
) -> None:
    done = deployment.empathctl("local", "invoke", function, f"events/{function}.json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == answer or (function == "retry" and result.keys() == {"queued", "revived"})


def test_a_message_whose_raw_object_is_gone_fails_and_its_sender_hears_of_it(deployment: Deployment) -> None:
    event = json.loads((CHECKOUT / "events/resolve.json").read_text())
    job = json.loads(event["Records"][0]["body"])
    job |= {"message_id": "01HRM00000000000000000G0NE", "spool_key": "messages/01HRM00000000000000000G0NE"}
    deployment.sqs.send_message(
        QueueUrl=deployment.running_stack.outputs["AcceptedQueueUrl"], MessageBody=json.dumps(job)
    )
    (record,) = deployment.settled(job["message_id"]).values()
    assert record.status is State.FAILED
    assert record.reason is Reason.CONTENT_LOST
    deployment.arrived("example.org", "no longer in the spool")
