"""The queues between the stages, each with a dead-letter queue of its own."""

import aws_cdk as cdk
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from empath.ports.queue import QueueName
from infra.settings import FunctionName, Settings

RETENTION = cdk.Duration.days(14)

# Receptions of a job before it counts as poisonous. A claim lost to a live lease also costs one.
MAX_RECEIVE_COUNT = 5

# Which function reads which queue; it decides how long a job in work stays hidden.
CONSUMERS: dict[QueueName, FunctionName] = {
    QueueName.ACCEPTED: "resolve",
    QueueName.DELIVERY: "deliver",
    QueueName.DELIVERY_HIGH: "deliver",
    QueueName.DELIVERY_BULK: "deliver",
    QueueName.DELIVERY_SLOW: "deliver",
    QueueName.RETRY: "deliver",
    QueueName.DSN: "dsn",
}


class Queues(Construct):
    """Those of CONSUMERS, their dead-letter queues, and one for stream records."""

    def __init__(self, scope: Construct, id: str, settings: Settings) -> None:
        super().__init__(scope, id)
        self.dead: dict[QueueName, sqs.Queue] = {name: self._queue(f"{name}-dead") for name in CONSUMERS}
        self.live: dict[QueueName, sqs.Queue] = {
            name: self._queue(
                name.value,
                visibility_timeout=cdk.Duration.seconds(settings.visibility(consumer)),
                dead_letter_queue=sqs.DeadLetterQueue(
                    queue=self.dead[name], max_receive_count=MAX_RECEIVE_COUNT
                ),
            )
            for name, consumer in CONSUMERS.items()
        }
        # What the stream's event source mapping gives up on; the records themselves stay in the ledger.
        self.journal_dead = self._queue("journal-dead")

    def _queue(
        self,
        name: str,
        visibility_timeout: cdk.Duration | None = None,
        dead_letter_queue: sqs.DeadLetterQueue | None = None,
    ) -> sqs.Queue:
        return sqs.Queue(
            self,
            name,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=RETENTION,
            visibility_timeout=visibility_timeout,
            dead_letter_queue=dead_letter_queue,
        )
