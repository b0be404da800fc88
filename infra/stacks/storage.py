"""EmpathStorage: what holds mail. The spool, the queues and the ledger, and their names as outputs."""

import aws_cdk as cdk
from constructs import Construct

from infra.constructs.audit import Audit
from infra.constructs.bus import Bus
from infra.constructs.ledger import Ledger
from infra.constructs.queues import Queues
from infra.constructs.spool import Spool
from infra.settings import Settings


class Storage(cdk.Stack):
    """Everything that must outlive a change of the code."""

    def __init__(self, scope: Construct, id: str, settings: Settings) -> None:
        super().__init__(
            scope,
            id,
            description="Empath: spool, queues and ledger",
            termination_protection=settings.keeps_data,
        )
        self.spool = Spool(self, "Spool", settings)
        self.queues = Queues(self, "Queues", settings)
        self.ledger = Ledger(self, "Ledger", settings)
        self.audit = Audit(self, "Audit", settings) if settings.audit == "on" else None
        self.bus = Bus(self, "Bus").bus

        outputs = {
            "SpoolBucket": self.spool.bucket.bucket_name,
            "DeliveriesTable": self.ledger.deliveries.table_name,
            "ControlTable": self.ledger.control.table_name,
            "EventBus": self.bus.event_bus_name,
            "JournalDeadLetterQueueUrl": self.queues.journal_dead.queue_url,
        }
        if self.audit is not None:
            outputs["AuditBucket"] = self.audit.bucket.bucket_name
            if settings.redact:
                # empathctl writes lines, too.
                outputs["AuditRedact"] = settings.redact
        for name, queue in self.queues.live.items():
            outputs[f"{name.in_outputs}QueueUrl"] = queue.queue_url
            outputs[f"{name.in_outputs}DeadLetterQueueUrl"] = self.queues.dead[name].queue_url
        for key, value in outputs.items():
            cdk.CfnOutput(self, key, value=value)
