"""What the ingress is told."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from empath.config.environment import (
    ConfigError,
    Environment,
    Names,
    Networks,
    Port,
    Processes,
    RelayDomains,
    Url,
    variable,
)
from empath.domain.address import HostName
from empath.ingress.priority_header import PriorityHeader
from empath.ingress.settings import IngressSettings, ProcessSettings
from empath.smtp.limits import MIB

_A_PORT = "a port number from 0 (any free one) to 65535, or off"
_NETWORKS = "comma between, no bits set after the prefix"


def _priority_header(value: object) -> object:
    return PriorityHeader.parse(value) if isinstance(value, str) else value


class IngressConfig(Environment):
    """Bucket, queue and host name it cannot do without; users, and so the ports for submission, need a
    control table and a certificate."""

    spool_bucket: str = variable("EMPATH_SPOOL_BUCKET", ..., "the name of the spool's bucket")
    accepted_queue_url: Url = variable("EMPATH_ACCEPTED_QUEUE_URL", ..., "the URL of an SQS queue")
    control_table: str | None = variable("EMPATH_CONTROL_TABLE", None, "the name of the control table")
    hostname: HostName = variable("EMPATH_HOSTNAME", ..., "the relay's own host name")

    smtp_host: str = variable("EMPATH_SMTP_HOST", "127.0.0.1", "the address to listen on")
    smtp_port: Port = variable("EMPATH_SMTP_PORT", 2525, _A_PORT)
    submission_port: Port = variable("EMPATH_SUBMISSION_PORT", None, _A_PORT)
    submissions_port: Port = variable("EMPATH_SUBMISSIONS_PORT", None, _A_PORT)

    relay_networks: Networks = variable(
        "EMPATH_RELAY_NETWORKS",
        (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128")),
        f"networks whose clients may relay, such as 10.0.0.0/8, {_NETWORKS}",
    )
    relay_domains: RelayDomains = variable(
        "EMPATH_RELAY_DOMAINS",
        (),
        "domains that anybody may send to, such as example.com or .example.com, comma between",
    )
    proxy_networks: Networks = variable(
        "EMPATH_PROXY_NETWORKS", (), f"networks of load balancers that send a PROXY header, {_NETWORKS}"
    )

    tls_certificate: Path | None = variable(
        "EMPATH_TLS_CERTIFICATE", None, "the path of a PEM file, with its chain"
    )
    tls_key: Path | None = variable(
        "EMPATH_TLS_KEY", None, "the path of the certificate's key, PEM, not encrypted"
    )
    tls_secret: str | None = variable(
        "EMPATH_TLS_SECRET", None, "the name or ARN of a secret with certificate and key"
    )
    tls_client_ca: Path | None = variable(
        "EMPATH_TLS_CLIENT_CA", None, "the path of a PEM file with the authorities of client certificates"
    )

    processes: Processes = variable(
        "EMPATH_PROCESSES", 1, "a number of processes from 1 to 64, or auto: one for each CPU"
    )
    health_host: str = variable("EMPATH_HEALTH_HOST", "127.0.0.1", "the address of the health port")
    health_port: Port = variable("EMPATH_HEALTH_PORT", None, _A_PORT)
    shutdown_grace: Annotated[float, Field(ge=0, le=600)] = variable(
        "EMPATH_SHUTDOWN_GRACE", 30, "seconds from 0 to 600 for sessions to end after SIGTERM"
    )
    shutdown_delay: Annotated[float, Field(ge=0, le=600)] = variable(
        "EMPATH_SHUTDOWN_DELAY", 0, "seconds from 0 to 600 between SIGTERM and the end of listening"
    )

    priority_header: Annotated[PriorityHeader, BeforeValidator(_priority_header)] | None = variable(
        "EMPATH_PRIORITY_HEADER",
        None,
        "a header field whose values are high, normal and bulk, such as X-Mail-Class, or one with its values,"
        " such as Precedence: bulk=bulk, list=bulk",
    )

    hooks: Names = variable("EMPATH_HOOKS", (), "names of Python modules with hooks, comma between")

    max_message_size: Annotated[int, Field(ge=64 * 1024, le=1024 * MIB)] = variable(
        "EMPATH_MAX_MESSAGE_SIZE", 50 * MIB, "octets, from 65536 to 1073741824"
    )
    max_recipients: Annotated[int, Field(ge=100, le=10_000)] = variable(
        "EMPATH_MAX_RECIPIENTS", 1000, "recipients of a message, from 100 to 10000"
    )
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = variable(
        "EMPATH_MAX_CONNECTIONS", 5000, "connections at a time, from 1 to 100000"
    )
    max_connections_per_client: Annotated[int, Field(ge=1, le=100_000)] = variable(
        "EMPATH_MAX_CONNECTIONS_PER_CLIENT", 200, "connections of one client at a time, from 1 to 100000"
    )
    client_messages_per_hour: Annotated[int, Field(ge=1)] | None = variable(
        "EMPATH_CLIENT_MESSAGES_PER_HOUR", None, "messages that a client network may send in an hour"
    )
    user_messages_per_hour: Annotated[int, Field(ge=1)] | None = variable(
        "EMPATH_USER_MESSAGES_PER_HOUR", None, "messages that a user may send in an hour"
    )

    def listener(self) -> IngressSettings:
        """The part of the listener's settings that the environment alone decides.

        Raises ConfigError where variables do not go together.
        """
        self._require_what_goes_together()
        return IngressSettings(
            host=self.smtp_host,
            port=self.smtp_port,
            submission_port=self.submission_port,
            submissions_port=self.submissions_port,
            hostname=self.hostname,
            networks=self.relay_networks,
            relay_domains=self.relay_domains,
            proxy_networks=self.proxy_networks,
            priority_header=self.priority_header,
            max_size=self.max_message_size,
            max_recipients=self.max_recipients,
            max_connections=self.max_connections,
            max_connections_per_client=self.max_connections_per_client,
            shutdown_grace=self.shutdown_grace,
        )

    def process(self) -> ProcessSettings:
        return ProcessSettings(
            processes=self.processes,
            health_host=self.health_host,
            health_port=self.health_port,
            shutdown_delay=self.shutdown_delay,
        )

    @property
    def has_certificate(self) -> bool:
        return self.tls_secret is not None or self.tls_certificate is not None

    def _require_what_goes_together(self) -> None:
        if self.tls_secret is None and (self.tls_certificate is None) != (self.tls_key is None):
            missing = "EMPATH_TLS_CERTIFICATE" if self.tls_certificate is None else "EMPATH_TLS_KEY"
            raise ConfigError(f"{missing} is not set: certificate and key are of use together only")
        if self.tls_secret is not None and (self.tls_certificate or self.tls_key):
            raise ConfigError(
                "EMPATH_TLS_SECRET and EMPATH_TLS_CERTIFICATE or _KEY are both set: one of them is enough"
            )
        if self.tls_client_ca is not None and not self.has_certificate:
            raise ConfigError("EMPATH_TLS_CLIENT_CA is of use with a certificate only, and there is none")
        if self.smtp_port is None and self.submission_port is None and self.submissions_port is None:
            raise ConfigError("EMPATH_SMTP_PORT is off and no other port is set: nothing to listen on")
        if self.tls_client_ca is not None and self.control_table is None:
            raise ConfigError("EMPATH_TLS_CLIENT_CA needs EMPATH_CONTROL_TABLE, where the users are")
        needing = {
            "EMPATH_SUBMISSION_PORT": self.submission_port,
            "EMPATH_SUBMISSIONS_PORT": self.submissions_port,
        }
        for needy in (name for name, port in needing.items() if port is not None):
            if not self.has_certificate:
                raise ConfigError(f"{needy} needs EMPATH_TLS_SECRET, or EMPATH_TLS_CERTIFICATE and _KEY")
            if self.control_table is None:
                raise ConfigError(f"{needy} needs EMPATH_CONTROL_TABLE, where the users are")
        limits = {
            "EMPATH_CLIENT_MESSAGES_PER_HOUR": self.client_messages_per_hour,
            "EMPATH_USER_MESSAGES_PER_HOUR": self.user_messages_per_hour,
        }
        for needy in (name for name, limit in limits.items() if limit is not None):
            if self.control_table is None:
                raise ConfigError(f"{needy} needs EMPATH_CONTROL_TABLE, where messages are counted")
