"""EmpathPipeline: what moves mail. Two layers, five doors, what each may do, and what wakes it."""

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from empath.ports.queue import QueueName
from infra import packaging
from infra.constructs.ledger import LISTING_INDEX
from infra.constructs.queues import CONSUMERS, Queues
from infra.constructs.schedule import MinuteClock
from infra.constructs.worker import Worker
from infra.settings import FUNCTIONS, FunctionName, Settings
from infra.stacks.storage import Storage

FIRST_ATTEMPTS = (QueueName.DELIVERY_HIGH, QueueName.DELIVERY, QueueName.DELIVERY_BULK)

# Actions by what a stage does with the ledger, the control table, the spool and the queues.
READ = ["dynamodb:GetItem"]
UPDATE = [*READ, "dynamodb:UpdateItem"]
CREATE = [*READ, "dynamodb:PutItem"]
PUT = ["dynamodb:PutItem"]
# Slots and circuits are updated, connections taken, looked at many at a time, and given back.
GATES = [*UPDATE, "dynamodb:BatchGetItem", "dynamodb:DeleteItem"]
FETCH = ["s3:GetObject"]
# Without it a missing object looks like a forbidden one.
LIST = ["s3:ListBucket"]
STORE = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
DELETE = ["s3:DeleteObject"]
SEND = ["sqs:SendMessage"]
OPEN = ["secretsmanager:GetSecretValue"]
# The v2 call with raw content is checked against the name of the v1 call.
BY_SES = ["ses:SendEmail", "ses:SendRawEmail"]
REHIDE = ["sqs:ChangeMessageVisibility"]
DRAIN = ["sqs:ReceiveMessage", "sqs:DeleteMessage"]


class Pipeline(cdk.Stack):
    """The functions of the stages; they hold no mail and can be replaced at any moment."""

    def __init__(self, scope: Construct, id: str, settings: Settings, storage: Storage) -> None:
        super().__init__(scope, id, description="Empath: the functions that move mail")
        self._settings = settings
        self._storage = storage
        self._layers = self._make_layers()

        self.workers = {name: self._worker(name) for name in FUNCTIONS}
        self._resolve(self.workers["resolve"])
        self._deliver(self.workers["deliver"])
        self._retry(self.workers["retry"])
        self._dsn(self.workers["dsn"])
        self._journal(self.workers["journal"])

        for name, worker in self.workers.items():
            cdk.CfnOutput(self, f"{name.capitalize()}Function", value=worker.function.function_name)

    def _resolve(self, worker: Worker) -> None:
        worker.consumes(self._queues.live[QueueName.ACCEPTED], concurrency=self._settings.resolve_concurrency)
        worker.may(CREATE, self._deliveries)
        worker.may([*READ, "dynamodb:BatchGetItem"], self._control)
        self._share_dns(worker)
        worker.may(DELETE, self._messages)
        worker.may(SEND, *self._queue_arns(*FIRST_ATTEMPTS, QueueName.DSN))
        worker.may(REHIDE, *self._queue_arns(QueueName.ACCEPTED))

    def _deliver(self, worker: Worker) -> None:
        settings = self._settings
        concurrency = {
            QueueName.DELIVERY: settings.deliver_concurrency,
            QueueName.DELIVERY_HIGH: settings.deliver_high_concurrency,
            QueueName.DELIVERY_BULK: settings.deliver_bulk_concurrency,
            QueueName.DELIVERY_SLOW: settings.deliver_slow_concurrency,
            QueueName.RETRY: settings.retry_concurrency,
        }
        for name, batches in concurrency.items():
            worker.consumes(self._queues.live[name], concurrency=batches)
        worker.may(UPDATE, self._deliveries)
        worker.may(GATES, self._control)
        self._share_dns(worker)
        worker.may(FETCH, self._messages)
        worker.may(LIST, self._bucket)
        # What a gate holds back before its first attempt goes back to where it came from.
        worker.may(SEND, *self._queue_arns(*concurrency, QueueName.DSN))
        worker.may(REHIDE, *self._queue_arns(*concurrency))
        self._routes(worker)

    def _routes(self, worker: Worker) -> None:
        if self._settings.route_secret_arns:
            worker.may(OPEN, *self._settings.route_secret_arns)
        if self._settings.ses == "on":
            # By whom and in which region is the policy's word; who may send as whom is SES's.
            parts = ("identity", "configuration-set")
            kinds = [
                self.format_arn(service="ses", region="*", resource=part, resource_name="*") for part in parts
            ]
            worker.may(BY_SES, *kinds)

    def _retry(self, worker: Worker) -> None:
        MinuteClock(self, "Clock", worker.function)
        # Dead letters that expire are written like resolved messages.
        worker.may([*UPDATE, "dynamodb:PutItem"], self._deliveries)
        worker.may(["dynamodb:Query"], f"{self._deliveries}/index/{LISTING_INDEX}")
        worker.may(READ, self._control)
        worker.may(DELETE, self._messages)
        worker.may(SEND, *self._queue_arns(*CONSUMERS))
        worker.may(DRAIN, *(queue.queue_arn for queue in self._queues.dead.values()))
        worker.function.add_environment(
            "EMPATH_DEAD_LETTER_QUEUE_URLS",
            self.to_json_string({name.value: self._queues.dead[name].queue_url for name in CONSUMERS}),
        )

    def _dsn(self, worker: Worker) -> None:
        worker.consumes(self._queues.live[QueueName.DSN], concurrency=self._settings.dsn_concurrency)
        worker.may(UPDATE, self._deliveries)
        # Reading: the tenant's policy. Updating: how many reports an address has had.
        worker.may(UPDATE, self._control)
        # Deleting: a late copy of a job clears away what an earlier try left behind.
        worker.may([*STORE, *DELETE], self._messages)
        worker.may(LIST, self._bucket)
        worker.may(SEND, *self._queue_arns(QueueName.ACCEPTED, QueueName.DSN))
        worker.may(REHIDE, *self._queue_arns(QueueName.DSN))

    def _share_dns(self, worker: Worker) -> None:
        if self._settings.dns_cache == "shared":
            worker.may(PUT, self._control, keys="dns#*")

    def _journal(self, worker: Worker) -> None:
        worker.follows(
            self._storage.ledger.deliveries,
            dead_letters=self._queues.journal_dead,
            retries=self._settings.journal_retries,
            gather=self._settings.journal_gather,
        )
        # Querying: whether another delivery of the message failed, where content is kept for that.
        worker.may([*UPDATE, "dynamodb:Query"], self._deliveries)
        spool = self._storage.spool.bucket
        worker.may([*DELETE, "s3:GetObject"], spool.arn_for_objects("messages/*"))
        # What a tenant keeps of settled messages. Listing tells what is gone from what is hidden.
        worker.may(["s3:PutObject"], spool.arn_for_objects("kept/*"))
        worker.may(LIST, self._bucket)
        worker.may(["events:PutEvents"], self._storage.bus.event_bus_arn)
        environment = {
            "EMPATH_EVENT_BUS": self._storage.bus.event_bus_name,
            "EMPATH_EVENT_TYPES": self._settings.event_types,
            "EMPATH_REDACT": self._settings.redact,
        }
        # A tenant's policy says whether its failures count.
        worker.may(READ, self._control)
        worker.may(PUT, self._control, keys="suppress#*")
        if self._storage.audit is not None:
            bucket = self._storage.audit.bucket
            # Writing one block after another, and reading one that another writer was faster with.
            worker.may(["s3:GetObject", "s3:PutObject"], bucket.arn_for_objects("audit/*"))
            worker.may(LIST, bucket.bucket_arn)
            worker.may(UPDATE, self._control, keys="audit#*")
            environment["EMPATH_AUDIT_BUCKET"] = bucket.bucket_name
        for variable, value in environment.items():
            worker.function.add_environment(variable, value)

    def _worker(self, name: FunctionName) -> Worker:
        live = self._queues.live
        environment = {
            "EMPATH_SPOOL_BUCKET": self._storage.spool.bucket.bucket_name,
            **{queue.variable: live[queue].queue_url for queue in CONSUMERS},
            "EMPATH_DELIVERIES_TABLE": self._storage.ledger.deliveries.table_name,
            "EMPATH_CONTROL_TABLE": self._storage.ledger.control.table_name,
            "EMPATH_HOSTNAME": self._settings.hostname,
            "EMPATH_NAMESERVERS": self._settings.nameservers,
            "EMPATH_DNS_CACHE": self._settings.dns_cache,
            "EMPATH_OWN_ADDRESSES": self._settings.own_addresses,
            "EMPATH_METRIC_DOMAINS": self._settings.metric_domains,
            "EMPATH_SUPPRESSION": self._settings.suppression,
            "EMPATH_TRACING": self._settings.tracing,
            "EMPATH_LOG_LEVEL": self._settings.log_level,
            "POWERTOOLS_SERVICE_NAME": "empath",
            "POWERTOOLS_METRICS_NAMESPACE": "Empath",
        }
        return Worker(
            self,
            name,
            self._settings,
            layers=self._layers,
            environment=environment,
            loops=name == "deliver",
        )

    def _make_layers(self) -> list[lambda_.LayerVersion]:
        runtime = lambda_.Runtime(f"python{self._settings.python_version}", lambda_.RuntimeFamily.PYTHON)
        dependencies = lambda_.LayerVersion(
            self,
            "Dependencies",
            description="Empath: third-party packages",
            code=packaging.dependencies_code(self._settings),
            compatible_runtimes=[runtime],
        )
        library = lambda_.LayerVersion(
            self,
            "Library",
            description="Empath: the library",
            code=packaging.library_code(self._settings),
            compatible_runtimes=[runtime],
        )
        return [dependencies, library]

    @property
    def _queues(self) -> Queues:
        return self._storage.queues

    @property
    def _deliveries(self) -> str:
        return self._storage.ledger.deliveries.table_arn

    @property
    def _control(self) -> str:
        return self._storage.ledger.control.table_arn

    @property
    def _bucket(self) -> str:
        return self._storage.spool.bucket.bucket_arn

    @property
    def _messages(self) -> str:
        return self._storage.spool.bucket.arn_for_objects("*")

    def _queue_arns(self, *names: QueueName) -> list[str]:
        return [self._queues.live[name].queue_arn for name in names]
