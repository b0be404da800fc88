"""EmpathIngress: where mail comes in. A network, a load balancer, and the service behind it."""

import aws_cdk as cdk
from constructs import Construct

from empath.ports.queue import QueueName
from infra.constructs.ingress_service import SHUTDOWN_DELAY_S, SHUTDOWN_GRACE_S, IngressService
from infra.constructs.load_balancer import HEALTH_PORT, RELAY, SUBMISSION, SUBMISSIONS, LoadBalancer
from infra.constructs.network import Network
from infra.settings import Settings
from infra.stacks.storage import Storage

CPU_UNITS = 1024  # of one CPU

STORE = ["s3:PutObject", "s3:AbortMultipartUpload"]
# Readiness asks for an attribute when no job has gone out for a while.
SEND = ["sqs:SendMessage", "sqs:GetQueueAttributes"]
READ = ["dynamodb:GetItem"]
COUNT = ["dynamodb:UpdateItem"]
OPEN = ["secretsmanager:GetSecretValue"]


class Ingress(cdk.Stack):
    """The SMTP listener; it holds no mail and can be replaced at any moment, its address aside."""

    def __init__(self, scope: Construct, id: str, settings: Settings, storage: Storage) -> None:
        super().__init__(scope, id, description="Empath: the SMTP ingress")
        self._settings = settings
        self._storage = storage

        network = Network(self, "Network", settings)
        self.load_balancer = LoadBalancer(self, "LoadBalancer", settings, network)
        self.service = IngressService(
            self,
            "Ingress",
            settings,
            network=network,
            load_balancer=self.load_balancer,
            environment=self._environment(),
        )
        self._accept(self.service)

        cdk.CfnOutput(self, "SmtpEndpoint", value=self.load_balancer.balancer.load_balancer_dns_name)

    def _accept(self, service: IngressService) -> None:
        """What a 250 needs: the message in the spool, its job on the queue."""
        service.may(STORE, self._storage.spool.bucket.arn_for_objects("*"))
        service.may(SEND, self._storage.queues.live[QueueName.ACCEPTED].queue_arn)
        service.may(READ, self._control, _keys_like("user#*"))
        service.may(COUNT, self._control, _keys_like("quota#*"))
        if self._settings.tls_secret:
            service.may(OPEN, self._settings.tls_secret)

    def _environment(self) -> dict[str, str]:
        settings, storage = self._settings, self._storage
        environment = {
            "EMPATH_SPOOL_BUCKET": storage.spool.bucket.bucket_name,
            "EMPATH_ACCEPTED_QUEUE_URL": storage.queues.live[QueueName.ACCEPTED].queue_url,
            "EMPATH_CONTROL_TABLE": storage.ledger.control.table_name,
            "EMPATH_HOSTNAME": settings.hostname,
            # A process uses one CPU at the most.
            "EMPATH_PROCESSES": str(max(1, settings.ingress_cpu // CPU_UNITS)),
            "EMPATH_SMTP_HOST": "0.0.0.0",  # noqa: S104 (the security group decides who connects)
            "EMPATH_SMTP_PORT": str(RELAY.container),
            "EMPATH_HEALTH_HOST": "0.0.0.0",  # noqa: S104
            "EMPATH_HEALTH_PORT": str(HEALTH_PORT),
            # From here a PROXY header is believed, and asked for: the load balancer is in the VPC.
            "EMPATH_PROXY_NETWORKS": ",".join(settings.vpc_cidrs),
            "EMPATH_RELAY_NETWORKS": ",".join(settings.relays_for),
            "EMPATH_RELAY_DOMAINS": settings.relay_domains,
            "EMPATH_SHUTDOWN_GRACE": str(SHUTDOWN_GRACE_S),
            "EMPATH_SHUTDOWN_DELAY": str(SHUTDOWN_DELAY_S),
            "EMPATH_LOG_LEVEL": settings.log_level,
            "EMPATH_TRACING": settings.tracing,
            "POWERTOOLS_SERVICE_NAME": "empath",
            "POWERTOOLS_METRICS_NAMESPACE": "Empath",
            **{f"EMPATH_{name.upper()}": str(value) for name, value in settings.limits.items()},
        }
        if settings.tls_secret:
            environment |= {
                "EMPATH_SUBMISSION_PORT": str(SUBMISSION.container),
                "EMPATH_SUBMISSIONS_PORT": str(SUBMISSIONS.container),
                "EMPATH_TLS_SECRET": settings.tls_secret,
            }
        return environment

    @property
    def _control(self) -> str:
        return self._storage.ledger.control.table_arn


def _keys_like(pattern: str) -> dict[str, object]:
    return {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": [pattern]}}
