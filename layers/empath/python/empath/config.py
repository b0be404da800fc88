"""The environment as validated models; nobody else reads EMPATH_ variables.

An empty variable counts as one that is not set, because a template writes it that way. What is wrong is a
ConfigError in one line per variable: its name, what it should hold, what it holds.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from empath.domain.address import HostName
from empath.domain.errors import ConfigError as ConfigError
from empath.domain.network import IPNetwork
from empath.ports.queue import QueueName

if TYPE_CHECKING:
    from ssl import SSLContext

    from empath.ingress.settings import IngressSettings

MIB = 1024 * 1024


def _comma_list(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _nameservers(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        host, port = value, "53"
        if value.startswith("["):
            host, _, rest = value[1:].partition("]")
            port = rest.removeprefix(":") or port
        elif value.count(":") == 1:
            host, _, port = value.partition(":")
        ipaddress.ip_address(host)
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
            raise ValueError(f"no port: {port}")
    return values


def _json_object(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


Nameservers = Annotated[tuple[str, ...], BeforeValidator(_comma_list), AfterValidator(_nameservers)]
Networks = Annotated[tuple[IPNetwork, ...], BeforeValidator(_comma_list)]
QueueUrls = Annotated[dict[QueueName, str], BeforeValidator(_json_object)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]
Url = Annotated[str, Field(pattern=r"^https?://\S+$")]


def _from(variable: str, default: Any, holds: str) -> Any:
    """A field that is read from `variable`, which should hold `holds` (in words)."""
    return Field(default, validation_alias=variable, description=holds)


class _Environment(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    tracing: Literal["on", "off"] = _from("EMPATH_TRACING", "off", "on or off")
    log_level: LogLevel = _from("EMPATH_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Raises ConfigError with a line for every variable that is missing or wrong."""
        variables = {str(field.validation_alias) for field in cls.model_fields.values()}
        given = {name: environ[name] for name in variables if environ.get(name, "").strip()}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            # One line per variable, however many of its parts are wrong.
            wrong = {str(fault["loc"][0]): given.get(str(fault["loc"][0])) for fault in error.errors()}
            raise ConfigError("\n".join(_fault(cls, name, value) for name, value in wrong.items())) from None


class FunctionConfig(_Environment):
    """What a function is told. Each is given only what it needs, so every name may be missing here;
    `need` asks for one that must not be."""

    function: str = _from("EMPATH_FUNCTION", "function", "the name of the function")
    spool_bucket: str | None = _from("EMPATH_SPOOL_BUCKET", None, "the name of the spool's bucket")
    accepted_queue_url: Url | None = _from("EMPATH_ACCEPTED_QUEUE_URL", None, "the URL of an SQS queue")
    delivery_queue_url: Url | None = _from("EMPATH_DELIVERY_QUEUE_URL", None, "the URL of an SQS queue")
    retry_queue_url: Url | None = _from("EMPATH_RETRY_QUEUE_URL", None, "the URL of an SQS queue")
    dsn_queue_url: Url | None = _from("EMPATH_DSN_QUEUE_URL", None, "the URL of an SQS queue")
    dead_letter_queue_urls: QueueUrls = _from(
        "EMPATH_DEAD_LETTER_QUEUE_URLS",
        {},
        'a JSON object of queue URLs by queue name: {"accepted": "https://...", ...}',
    )
    deliveries_table: str | None = _from("EMPATH_DELIVERIES_TABLE", None, "the name of the ledger's table")
    control_table: str | None = _from("EMPATH_CONTROL_TABLE", None, "the name of the control table")
    hostname: HostName | None = _from("EMPATH_HOSTNAME", None, "the relay's own host name")
    nameservers: Nameservers = _from(
        "EMPATH_NAMESERVERS", (), "IP addresses of name servers, each with :port if not 53, comma between"
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
            QueueName.RETRY: self.retry_queue_url,
            QueueName.DSN: self.dsn_queue_url,
        }
        return {queue: url for queue, url in urls.items() if url is not None}


class IngressConfig(_Environment):
    """What the ingress is told; bucket, queue and host name it cannot do without."""

    spool_bucket: str = _from("EMPATH_SPOOL_BUCKET", ..., "the name of the spool's bucket")
    accepted_queue_url: Url = _from("EMPATH_ACCEPTED_QUEUE_URL", ..., "the URL of an SQS queue")
    hostname: HostName = _from("EMPATH_HOSTNAME", ..., "the relay's own host name")
    smtp_host: str = _from("EMPATH_SMTP_HOST", "127.0.0.1", "the address to listen on")
    smtp_port: Annotated[int, Field(ge=0, le=65_535)] = _from(
        "EMPATH_SMTP_PORT", 2525, "a port number from 0 (any free one) to 65535"
    )
    relay_networks: Networks = _from(
        "EMPATH_RELAY_NETWORKS",
        (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128")),
        "networks whose clients may relay, such as 10.0.0.0/8, comma between, no bits set after the prefix",
    )
    tls_certificate: Path | None = _from(
        "EMPATH_TLS_CERTIFICATE", None, "the path of a PEM file, with its chain"
    )
    tls_key: Path | None = _from(
        "EMPATH_TLS_KEY", None, "the path of the certificate's key, PEM, not encrypted"
    )
    max_message_size: Annotated[int, Field(ge=64 * 1024, le=1024 * MIB)] = _from(
        "EMPATH_MAX_MESSAGE_SIZE", 50 * MIB, "octets, from 65536 to 1073741824"
    )

    def listener(self) -> IngressSettings:
        """The part that the listener takes. Raises ConfigError when certificate or key cannot be used."""
        from empath.ingress.settings import IngressSettings

        return IngressSettings(
            host=self.smtp_host,
            port=self.smtp_port,
            hostname=self.hostname,
            networks=self.relay_networks,
            max_size=self.max_message_size,
            tls=self._tls_context(),
        )

    def _tls_context(self) -> SSLContext | None:
        if self.tls_certificate is None and self.tls_key is None:
            return None
        if self.tls_certificate is None or self.tls_key is None:
            missing = "EMPATH_TLS_CERTIFICATE" if self.tls_certificate is None else "EMPATH_TLS_KEY"
            raise ConfigError(f"{missing} is not set: certificate and key are of use together only")
        from empath.ingress.tls import server_context

        try:
            return server_context(self.tls_certificate, self.tls_key)
        except ConfigError as error:
            raise ConfigError(f"EMPATH_TLS_CERTIFICATE and EMPATH_TLS_KEY: {error}") from None


def _fault(model: type[BaseModel], variable: str, value: str | None) -> str:
    field = next(field for field in model.model_fields.values() if field.validation_alias == variable)
    if value is None:
        return f"{variable} is not set: it should hold {field.description}"
    return f"{variable} should hold {field.description}; it holds {value[:200]!r}"
