"""What a function is told."""

from __future__ import annotations

from typing import Literal

from empath.config.environment import (
    ConfigError,
    Environment,
    LifecycleTypes,
    Names,
    Nameservers,
    Networks,
    QueueUrls,
    RedactedFields,
    Url,
    variable,
)
from empath.domain.address import HostName
from empath.domain.lifecycle import LIFECYCLE_TYPES
from empath.domain.redaction import REDACTED_FIELDS
from empath.ports.queue import QueueName


class FunctionConfig(Environment):
    """What a function is told. Each is given only what it needs, so every name may be missing here;
    `need` asks for one that must not be."""

    function: str = variable("EMPATH_FUNCTION", "function", "the name of the function")
    spool_bucket: str | None = variable("EMPATH_SPOOL_BUCKET", None, "the name of the spool's bucket")
    accepted_queue_url: Url | None = variable("EMPATH_ACCEPTED_QUEUE_URL", None, "the URL of an SQS queue")
    delivery_queue_url: Url | None = variable("EMPATH_DELIVERY_QUEUE_URL", None, "the URL of an SQS queue")
    delivery_high_queue_url: Url | None = variable(
        "EMPATH_DELIVERY_HIGH_QUEUE_URL", None, "the URL of an SQS queue"
    )
    delivery_bulk_queue_url: Url | None = variable(
        "EMPATH_DELIVERY_BULK_QUEUE_URL", None, "the URL of an SQS queue"
    )
    delivery_slow_queue_url: Url | None = variable(
        "EMPATH_DELIVERY_SLOW_QUEUE_URL", None, "the URL of an SQS queue"
    )
    retry_queue_url: Url | None = variable("EMPATH_RETRY_QUEUE_URL", None, "the URL of an SQS queue")
    dsn_queue_url: Url | None = variable("EMPATH_DSN_QUEUE_URL", None, "the URL of an SQS queue")
    dead_letter_queue_urls: QueueUrls = variable(
        "EMPATH_DEAD_LETTER_QUEUE_URLS",
        {},
        'a JSON object of queue URLs by queue name: {"accepted": "https://...", ...}',
    )
    deliveries_table: str | None = variable("EMPATH_DELIVERIES_TABLE", None, "the name of the ledger's table")
    control_table: str | None = variable("EMPATH_CONTROL_TABLE", None, "the name of the control table")
    audit_bucket: str | None = variable("EMPATH_AUDIT_BUCKET", None, "the name of the audit trail's bucket")
    suppression: Literal["on", "off"] = variable("EMPATH_SUPPRESSION", "off", "on or off")
    event_bus: str | None = variable("EMPATH_EVENT_BUS", None, "the name of an EventBridge bus")
    event_types: LifecycleTypes = variable(
        "EMPATH_EVENT_TYPES", (), f"some of {', '.join(LIFECYCLE_TYPES)}, comma between"
    )
    redact: RedactedFields = variable(
        "EMPATH_REDACT", (), f"some of {', '.join(REDACTED_FIELDS)}, comma between"
    )
    metric_domains: Names = variable(
        "EMPATH_METRIC_DOMAINS", (), "domains, and hosts of next hops, comma between"
    )
    hostname: HostName | None = variable("EMPATH_HOSTNAME", None, "the relay's own host name")
    nameservers: Nameservers = variable(
        "EMPATH_NAMESERVERS", (), "IP addresses of name servers, each with :port if not 53, comma between"
    )
    dns_cache: Literal["shared", "memory"] = variable("EMPATH_DNS_CACHE", "shared", "shared or memory")
    own_addresses: Networks = variable(
        "EMPATH_OWN_ADDRESSES", (), "IP networks that mail for this relay comes in at, comma between"
    )

    def need(self, name: str) -> str:
        """The field `name`. Raises ConfigError, naming its variable, when it is not set."""
        value = getattr(self, name)
        if value is None:
            field = type(self).model_fields[name]
            raise ConfigError(f"{field.validation_alias} is not set: it should hold {field.description}")
        return str(value)

    @property
    def queue_urls(self) -> dict[QueueName, str]:
        """The queues that this function was told of."""
        urls = {
            QueueName.ACCEPTED: self.accepted_queue_url,
            QueueName.DELIVERY: self.delivery_queue_url,
            QueueName.DELIVERY_HIGH: self.delivery_high_queue_url,
            QueueName.DELIVERY_BULK: self.delivery_bulk_queue_url,
            QueueName.DELIVERY_SLOW: self.delivery_slow_queue_url,
            QueueName.RETRY: self.retry_queue_url,
            QueueName.DSN: self.dsn_queue_url,
        }
        return {queue: url for queue, url in urls.items() if url is not None}
