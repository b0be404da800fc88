"""Deployment settings: the CDK context of cdk.json and `-c key=value`, as one validated model.

Everything that a deployment may choose is a field here; stacks read this model and nothing else. In order of
precedence: `-c key=value`, then the object `empath` in cdk.json (the deployment's own choices; the local
stack leaves them aside), then the profile's defaults (`aws` or `local`).

What must hold between the numbers, whatever is chosen: a claim on a delivery (its lease) is taken inside an
invocation and ends LEASE_GRACE_S after that invocation must have ended; only then may SQS show the job again.
So function timeout + LEASE_GRACE_S < visibility timeout, with room for a cold start between the two.
"""

import difflib
import ipaddress
import platform
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from empath.domain.host_name import is_host_name
from empath.domain.lifecycle import DEFAULT_TYPES, LIFECYCLE_TYPES
from empath.domain.redaction import REDACTED_FIELDS
from empath.net.nameserver import parse_nameserver
from infra.ingress_settings import IngressSettings
from infra.route_settings import RouteRights

# The deliver stage claims a delivery for the invocation's remaining time plus this.
LEASE_GRACE_S = 10

# Between receiving a batch and the first line of the handler lies a cold start. It counts against the
# visibility timeout but not against the lease, so the lease must end at least this much earlier.
COLD_START_S = 4

# Every one is paid for each month, whether mail goes there or not.
MAX_METRIC_DOMAINS = 50

Architecture = Literal["arm64", "x86_64"]
FunctionName = Literal["resolve", "deliver", "retry", "dsn", "journal"]
FUNCTIONS: tuple[FunctionName, ...] = ("resolve", "deliver", "retry", "dsn", "journal")


class SettingsError(ValueError):
    """A setting is unknown or its value cannot be used; the message names it and says what is expected."""


class Settings(RouteRights, IngressSettings):
    """What a deployment may choose, with the values that suit AWS."""

    profile: Literal["aws", "local"] = "aws"
    # Where the functions run decides which wheels their layer holds: Lambda's platform or this interpreter.
    bundling: Literal["lambda", "local"] = "lambda"
    python_version: str = Field("3.13", pattern=r"^3\.\d{1,2}$")
    architecture: Architecture = "arm64"

    hostname: str = "relay.example.com"
    nameservers: str = ""
    dns_cache: Literal["shared", "memory"] = "shared"
    # Where mail for this relay comes in, besides its host name: a next hop there would be the relay itself.
    own_addresses: str = ""
    # Destinations (in A-labels), and hosts of next hops, with counters of their own, all others as `other`;
    # empty for no counters by domain. Each of them costs some ten custom metrics.
    metric_domains: str = ""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_retention_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 180, 365, 731] = 30
    tracing: Literal["on", "off"] = "off"

    # Stored mail and state outlive the stack unless the deployment says otherwise.
    removal: Literal["retain", "destroy"] = "retain"
    point_in_time_recovery: bool = True
    # Never before the longest expiry that a policy may have (30 days), with some days for dead letters to
    # come back in: else the bucket would take the content away from under mail that is still queued.
    spool_expiry_days: int = Field(40, ge=35, le=365)

    resolve_timeout: int = Field(60, ge=3, le=900)
    deliver_timeout: int = Field(780, ge=3, le=900)
    retry_timeout: int = Field(60, ge=3, le=900)
    dsn_timeout: int = Field(60, ge=3, le=900)
    journal_timeout: int = Field(60, ge=3, le=900)
    visibility_margin: int = Field(60, ge=1, le=3600)

    memory: int = Field(512, ge=128, le=10240)
    deliver_memory: int = Field(1024, ge=128, le=10240)
    # One CPU: with a hundred thousand deliveries due, what a tick gets done is what it can compute.
    retry_memory: int = Field(1769, ge=128, le=10240)

    # Batches in work at a time per event source mapping; AWS takes 2 to 1000.
    resolve_concurrency: int = Field(20, ge=2, le=1000)
    deliver_concurrency: int = Field(100, ge=2, le=1000)
    deliver_high_concurrency: int = Field(20, ge=2, le=1000)
    deliver_bulk_concurrency: int = Field(50, ge=2, le=1000)
    deliver_slow_concurrency: int = Field(20, ge=2, le=1000)
    retry_concurrency: int = Field(20, ge=2, le=1000)
    dsn_concurrency: int = Field(5, ge=2, le=1000)
    journal_retries: int = Field(10, ge=0, le=10_000)
    # Seconds. Every batch with something to tell is an object of the audit trail, a PUT for 0.000005 USD.
    journal_gather: int = Field(10, ge=0, le=300)

    # The audit trail, and what is left out of it and of events (domain/redaction.py has the names). With lock
    # days nobody deletes a block before they are over; in compliance mode not even the account's root.
    audit: Literal["on", "off"] = "on"
    audit_lock_days: int = Field(0, ge=0, le=36_500)
    audit_lock_mode: Literal["governance", "compliance"] = "governance"
    redact: str = ""
    # Addresses that a next hop says have no mailbox are not tried again for a time.
    suppression: Literal["on", "off"] = "on"
    # What applications are told on the event bus; empty for nothing.
    event_types: str = ",".join(DEFAULT_TYPES)

    @field_validator("event_types", "redact")
    @classmethod
    def _known_words(cls, value: str, info: ValidationInfo) -> str:
        known = LIFECYCLE_TYPES if info.field_name == "event_types" else REDACTED_FIELDS
        words = [word for part in value.split(",") if (word := part.strip())]
        if unknown := [word for word in words if word not in known]:
            raise ValueError(f"expected some of {', '.join(known)}, not {unknown[0]!r}")
        return ",".join(words)

    @field_validator("hostname")
    @classmethod
    def _hostname(cls, value: str) -> str:
        # As the functions read it, but for literals: every one of them would end at its start.
        if not is_host_name(value.lower()):
            raise ValueError("expected a host name, such as relay.example.com")
        return value

    @field_validator("metric_domains")
    @classmethod
    def _metric_domains(cls, value: str) -> str:
        names = [name.lower() for part in value.split(",") if (name := part.strip())]
        if wrong := [name for name in names if not is_host_name(name)]:
            raise ValueError(f"expected domains in A-labels, comma-separated, not {wrong[0]!r}")
        if len(names) > MAX_METRIC_DOMAINS:
            raise ValueError(f"expected {MAX_METRIC_DOMAINS} domains at most, not {len(names)}")
        return ",".join(dict.fromkeys(names))

    @field_validator("nameservers")
    @classmethod
    def _nameservers(cls, value: str) -> str:
        # As the functions read them: a name would end every one of them at its start.
        for server in filter(None, (part.strip() for part in value.split(","))):
            try:
                parse_nameserver(server)
            except ValueError:
                raise ValueError(
                    f"expected IP addresses or address:port, comma-separated, not {server!r}"
                ) from None
        return value.replace(" ", "")

    @field_validator("own_addresses")
    @classmethod
    def _own_addresses(cls, value: str) -> str:
        for network in filter(None, (part.strip() for part in value.split(","))):
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(
                    f"expected IP addresses or networks, comma-separated, not {network!r}"
                ) from None
        return value.replace(" ", "")

    @model_validator(mode="after")
    def _lease_ends_before_redelivery(self) -> Self:
        lease_end = self.deliver_timeout + LEASE_GRACE_S + COLD_START_S
        if lease_end >= self.visibility("deliver"):
            raise ValueError(
                f"visibility_margin must be over {LEASE_GRACE_S + COLD_START_S} s: a claim lasts until"
                f" {LEASE_GRACE_S} s after the invocation, and a cold start may come before it"
            )
        return self

    def timeout(self, function: FunctionName) -> int:
        """Seconds that one invocation of the function may take."""
        seconds: int = getattr(self, f"{function}_timeout")
        return seconds

    def visibility(self, consumer: FunctionName) -> int:
        """Seconds that a received job stays hidden, for a queue read by this function."""
        return self.timeout(consumer) + self.visibility_margin

    def memory_of(self, function: FunctionName) -> int:
        """MiB of a function, which also is its share of a CPU."""
        return {"deliver": self.deliver_memory, "retry": self.retry_memory}.get(function, self.memory)

    @property
    def keeps_data(self) -> bool:
        """Whether bucket and tables survive the removal of their stack."""
        return self.removal == "retain"

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> Self:
        """Read the settings out of a CDK context, ignoring the toolkit's own keys.

        Raises SettingsError, which names every setting that is wrong.
        """
        given = {key: value for key, value in context.items() if not _belongs_to_cdk(key)}
        chosen = given.pop("empath", {})
        if not isinstance(chosen, Mapping):
            raise SettingsError(f"'empath' in cdk.json must be an object of settings, got {chosen!r}")
        for key in (*given, *chosen):
            if key not in cls.model_fields:
                near = difflib.get_close_matches(key, cls.model_fields, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise SettingsError(f"unknown setting {key!r} in cdk.json or -c{hint}")
        local = given.get("profile") == "local"
        try:
            return cls(**{**(_local_defaults() if local else chosen), **given})
        except ValidationError as error:
            problems = "; ".join(_sentence(problem["loc"], problem) for problem in error.errors())
            raise SettingsError(problems) from None


def _belongs_to_cdk(key: str) -> bool:
    # The CLI adds feature flags (@aws-cdk/...), its switches (aws:cdk:...) and looked-up values.
    return key.startswith(("@", "aws:", "aws-cdk:")) or ":" in key or "/" in key


def _sentence(location: tuple[int | str, ...], problem: Mapping[str, Any]) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not location:
        return message
    return f"setting {location[0]!r}: {message}, got {problem['input']!r}"


def _local_defaults() -> dict[str, object]:
    """A laptop: nothing outlives the state directory, and a killed worker's jobs are back in a minute."""
    return {
        "bundling": "local",
        "architecture": "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64",
        "hostname": "relay.localhost",
        # A process of this machine instead, started the same way.
        "ingress": "none",
        "removal": "destroy",
        "point_in_time_recovery": False,
        "log_retention_days": 1,
        "resolve_timeout": 20,
        "deliver_timeout": 20,
        "retry_timeout": 20,
        "dsn_timeout": 20,
        "journal_timeout": 20,
        "journal_gather": 0,
        "visibility_margin": 20,
        "resolve_concurrency": 2,
        "deliver_concurrency": 2,
        "deliver_high_concurrency": 2,
        "deliver_bulk_concurrency": 2,
        "deliver_slow_concurrency": 2,
        "retry_concurrency": 2,
        "dsn_concurrency": 2,
    }
