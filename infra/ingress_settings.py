"""Deployment settings of the ingress: where it stands, who reaches it, and how large it is.

Lists are text with commas, because `-c key=value` gives text. Networks are IPv4: the load balancer has no
other addresses.
"""

import ipaddress
import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from empath.ingress.priority_header import PriorityHeader

# A network of clients that may relay has at least this many bits before the slash. 10.0.0.0/8 is the widest
# that is private; all wider ones are mostly other people's, and whoever lists them runs an open relay.
WIDEST_RELAY_NETWORK = 8

# What Fargate offers (MiB by CPU units); beyond 4096 units a second service does more for availability.
FARGATE_MEMORY = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4096 + 1, 1024)),
    1024: tuple(range(2048, 8192 + 1, 1024)),
    2048: tuple(range(4096, 16384 + 1, 1024)),
    4096: tuple(range(8192, 30720 + 1, 1024)),
}

# Limits that the ingress has defaults for; None leaves each as it is.
LIMITS = (
    "max_message_size",
    "max_recipients",
    "max_connections",
    "max_connections_per_client",
    "client_messages_per_hour",
    "user_messages_per_hour",
    "priority_header",
)

# Where a VPC is that exists already; each says nothing without `vpc_id`.
EXISTING_VPC = ("vpc_zones", "vpc_public_subnets", "vpc_private_subnets", "vpc_route_tables")

_DOMAIN = re.compile(r"\.?(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*")


class IngressSettings(BaseModel):
    """The part of the settings that EmpathIngress reads; `Settings` holds all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    # `none` leaves the stack out: the ingress is then a process that somebody runs elsewhere.
    ingress: Literal["service", "none"] = "service"
    ingress_scheme: Literal["internal", "internet-facing"] = "internal"
    ingress_cpu: Literal[256, 512, 1024, 2048, 4096] = 256
    ingress_memory: int = 1024
    ingress_min_tasks: int = Field(2, ge=1, le=100)
    ingress_max_tasks: int = Field(10, ge=1, le=100)

    # Who may relay to anywhere without a password. None: the VPC. Empty: nobody.
    relay_networks: str | None = None
    # To these anybody may send who reaches the ingress.
    relay_domains: str = ""
    # Who may open a connection at all. None: those that may relay.
    client_networks: str | None = None
    # A secret with certificate and key. Without it there is no TLS, so no AUTH and no submission ports.
    tls_secret: str = Field(
        "", pattern=r"^$|^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@-]+-[A-Za-z0-9]{6}$"
    )

    max_message_size: int | None = Field(None, ge=64 * 1024, le=1024**3)
    max_recipients: int | None = Field(None, ge=100, le=10_000)
    max_connections: int | None = Field(None, ge=1, le=100_000)
    max_connections_per_client: int | None = Field(None, ge=1, le=100_000)
    client_messages_per_hour: int | None = Field(None, ge=1)
    user_messages_per_hour: int | None = Field(None, ge=1)
    # A header field that says a message's priority: `X-Mail-Class`, or `Precedence: bulk=bulk, list=bulk`.
    priority_header: str | None = None

    # 0: tasks stand in public subnets, with addresses of their own that nobody may connect to.
    nat_gateways: int = Field(2, ge=0, le=2)
    vpc_cidr: str = "10.25.0.0/16"
    vpc_id: str = Field("", pattern=r"^$|^vpc-[0-9a-f]{8,17}$")
    vpc_zones: str = ""
    vpc_public_subnets: str = ""
    vpc_private_subnets: str = ""
    vpc_route_tables: str = ""

    @field_validator("ingress_cpu", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdigit() else value

    @field_validator("priority_header")
    @classmethod
    def _priority_header(cls, value: str | None) -> str | None:
        if value is not None:
            PriorityHeader.parse(value)
        return value

    @field_validator("relay_networks", "client_networks", "vpc_cidr")
    @classmethod
    def _networks(cls, value: str | None) -> str | None:
        if value is None:
            return None
        for network in listed(value):
            try:
                ipaddress.IPv4Network(network)
            except ValueError as error:
                raise ValueError(
                    f"expected IPv4 networks such as 10.0.0.0/8, comma-separated: {error}"
                ) from None
        return ",".join(listed(value))

    @field_validator("relay_networks")
    @classmethod
    def _no_open_relay(cls, value: str | None) -> str | None:
        for network in listed(value or ""):
            if ipaddress.IPv4Network(network).prefixlen < WIDEST_RELAY_NETWORK:
                raise ValueError(
                    f"{network} would make an open relay; who may connect is client_networks,"
                    " and users elsewhere authenticate (tls_secret)"
                )
        return value

    @field_validator("relay_domains")
    @classmethod
    def _domains(cls, value: str) -> str:
        for domain in listed(value):
            if not _DOMAIN.fullmatch(domain):
                raise ValueError(
                    f"expected domains in ASCII such as example.com, or .example.com for all below it,"
                    f" comma-separated, not {domain!r}"
                )
        return ",".join(listed(value))

    @field_validator("vpc_public_subnets", "vpc_private_subnets")
    @classmethod
    def _subnets(cls, value: str) -> str:
        return _identifiers(value, "subnet-")

    @field_validator("vpc_route_tables")
    @classmethod
    def _route_tables(cls, value: str) -> str:
        return _identifiers(value, "rtb-")

    @field_validator("vpc_zones")
    @classmethod
    def _zones(cls, value: str) -> str:
        zones = listed(value)
        for zone in zones:
            if not re.fullmatch(r"[a-z]{2}(-[a-z0-9]+)+-\d[a-z]", zone):
                raise ValueError(f"expected availability zones such as eu-central-1a, not {zone!r}")
        if zones and (len(set(zones)) != len(zones) or len(zones) < 2):
            raise ValueError("expected two different availability zones at least")
        return ",".join(zones)

    @model_validator(mode="after")
    def _tasks_fit(self) -> Self:
        sizes = FARGATE_MEMORY[self.ingress_cpu]
        if self.ingress_memory not in sizes:
            raise ValueError(
                f"ingress_memory must be one of {', '.join(map(str, sizes))} MiB with ingress_cpu"
                f" {self.ingress_cpu}, got {self.ingress_memory}"
            )
        if self.ingress_max_tasks < self.ingress_min_tasks:
            raise ValueError("ingress_max_tasks must not be below ingress_min_tasks")
        return self

    @model_validator(mode="after")
    def _somebody_may_connect(self) -> Self:
        if self.ingress == "none":
            return self
        if self.ingress_scheme == "internet-facing" and not self.client_networks:
            raise ValueError(
                "client_networks must say who may connect to an internet-facing ingress:"
                " networks such as 203.0.113.0/24, or 0.0.0.0/0 for everybody"
            )
        if not self.clients:
            raise ValueError("client_networks must say who may connect, because relay_networks is empty")
        return self

    @model_validator(mode="after")
    def _vpc_is_whole(self) -> Self:
        if not self.vpc_id:
            self._require_nothing_of_an_existing_vpc()
            return self
        if "nat_gateways" in self.model_fields_set:
            raise ValueError("nat_gateways is for a new VPC; vpc_id names one that has its own ways out")
        if "vpc_cidr" not in self.model_fields_set:
            raise ValueError(f"vpc_cidr must name the networks of {self.vpc_id}")
        if not self.vpc_zones:
            raise ValueError(f"vpc_zones must name the availability zones of the subnets in {self.vpc_id}")
        needed = "vpc_public_subnets" if self.ingress_scheme == "internet-facing" else None
        if needed is None and not (self.vpc_public_subnets or self.vpc_private_subnets):
            needed = "vpc_private_subnets"
        for name in ("vpc_public_subnets", "vpc_private_subnets", "vpc_route_tables"):
            count, zones = len(listed(getattr(self, name))), len(self.zones)
            if count != zones and (count or name == needed):
                raise ValueError(f"{name} must name one for each of the {zones} vpc_zones, in their order")
        return self

    def _require_nothing_of_an_existing_vpc(self) -> None:
        for name in EXISTING_VPC:
            if getattr(self, name):
                raise ValueError(f"{name} is for a VPC that exists; vpc_id must name it")
        cidrs = self.vpc_cidrs
        if len(cidrs) != 1 or not 16 <= ipaddress.IPv4Network(cidrs[0]).prefixlen <= 24:
            raise ValueError("vpc_cidr of a new VPC must be one network between /16 and /24")

    @property
    def vpc_cidrs(self) -> list[str]:
        """The networks of the VPC, where the load balancer's own addresses are."""
        return listed(self.vpc_cidr)

    @property
    def zones(self) -> list[str]:
        """The availability zones of an existing VPC's subnets."""
        return listed(self.vpc_zones)

    @property
    def relays_for(self) -> list[str]:
        """Networks whose clients may relay to anywhere."""
        return self.vpc_cidrs if self.relay_networks is None else listed(self.relay_networks)

    @property
    def clients(self) -> list[str]:
        """Networks that may open connections."""
        return self.relays_for if self.client_networks is None else listed(self.client_networks)

    @property
    def limits(self) -> dict[str, int]:
        """The limits that the deployment sets, by name."""
        return {name: value for name in LIMITS if (value := getattr(self, name)) is not None}

    @property
    def tasks_have_public_addresses(self) -> bool:
        """Whether tasks stand in public subnets, for lack of private ones with a way out."""
        return not self.vpc_private_subnets if self.vpc_id else self.nat_gateways == 0


def listed(value: str) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in value.split(",") if part.strip()]


def _identifiers(value: str, prefix: str) -> str:
    for part in listed(value):
        if not re.fullmatch(rf"{prefix}[0-9a-f]{{8,17}}", part):
            raise ValueError(f"expected identifiers such as {prefix}0a1b2c3d, comma-separated, not {part!r}")
    return ",".join(listed(value))
