"""What the operator decides per destination domain: `policy#<domain>` over `policy#*`.

And per tenant, who is on the other side: `policy#tenant:<name>` over `policy#tenant:*`. A domain has no colon
but in an address literal, so the two never meet.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from empath.domain.errors import InvalidPolicy
from empath.domain.gate_policy import MAX_CONNECTIONS, CircuitPolicy, Rate
from empath.domain.network import AddressOrder, IPNetwork
from empath.domain.report_policy import TenantPolicy
from empath.domain.retry import RetryPolicy
from empath.domain.route import HostField, MxRoute, RouteHost, RouteSettings, SmarthostRoute

M = TypeVar("M", bound=BaseModel)

OnAmbiguous = Literal["retry", "hold", "fail"]
TlsMode = Literal["opportunistic", "required", "verified", "disabled"]


def _network(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        raise ValueError("a network is needed, with no bit set behind its prefix: 10.20.0.0/16") from None


class DomainPolicy(BaseModel):
    """The settings of one destination domain, defaults filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow_addresses: tuple[Annotated[IPNetwork, BeforeValidator(_network)], ...] = ()
    """Networks that may be delivered to although they are not globally routable."""

    addresses: AddressOrder = AddressOrder.IPV4_FIRST
    """IPv4 first, since it is IPv4 addresses that have PTR records under the operator's control."""

    port: int = Field(default=25, ge=1, le=65_535)
    tls: TlsMode = "opportunistic"
    """`required`: no mail in plain, whoever the other side is. `verified`: its certificate must be one of an
    authority of the system, for the name of the host or `tls_name`. A host's name comes from DNS, where it
    can be forged; `tls_name` comes from here."""
    tls_name: HostField | None = None
    """Who the certificate has to be for; only where `tls` is `verified`."""
    accept_invalid_certs: bool = False
    """Where `verified` finds an invalid certificate, send all the same, with a warning each time."""

    messages_per_connection: int = Field(default=100, ge=1, le=10_000)
    """Then a connection is closed, whatever the next hop would take (its LIMITS hold in any case)."""

    retry: RetryPolicy = RetryPolicy()
    rate: Rate | None = None
    """Messages in a time to a site; None: as many as there are."""

    max_connections: int | None = Field(default=None, ge=1, le=MAX_CONNECTIONS)
    """At a time to a site, over all workers; None: as many as there are workers."""

    circuit: CircuitPolicy = CircuitPolicy()
    route: RouteSettings = MxRoute()
    frozen: bool = False
    """Nothing is tried; mail waits until somebody lifts this, or until its time is over."""
    on_ambiguous: OnAmbiguous = "retry"
    """What becomes of mail that a next hop may have taken although nobody said so."""

    @model_validator(mode="after")
    def _name_is_looked_at(self) -> Self:
        if self.tls_name is not None and self.tls != "verified":
            raise ValueError(f"tls_name is looked at only where tls is verified, and it is {self.tls}")
        return self

    @model_validator(mode="after")
    def _no_password_in_plain(self) -> Self:
        if isinstance(self.route, SmarthostRoute) and self.route.secret and self.tls == "disabled":
            raise ValueError("route.secret is said in TLS only, and tls is disabled")
        return self


class UnknownPolicy(DomainPolicy):
    """Where only a wrong item is known: by which way and how safely mail has to leave nobody can say, so it
    waits. To mail exchangers it might go in plain, or fail for good."""

    route: RouteSettings = SmarthostRoute(kind="smarthost", hosts=(RouteHost(host="unknown.invalid"),))


def unknown_policy(known: DomainPolicy) -> UnknownPolicy:
    """What is known, with no way for mail to leave."""
    return UnknownPolicy.model_validate(known.model_dump(exclude={"route"}))


def merge_policy(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """`override` over `base`, field by field, nested settings too, unless they are of another `kind`."""
    merged = dict(base)
    for name, value in override.items():
        current = merged.get(name)
        if isinstance(current, Mapping) and isinstance(value, Mapping) and _are_alike(current, value):
            merged[name] = merge_policy(current, value)
        else:
            merged[name] = value
    return merged


def _are_alike(current: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return "kind" not in value or bool(value["kind"] == current.get("kind"))


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their names with dots; an empty map is a value."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def read_policy(settings: Mapping[str, Any]) -> DomainPolicy:
    """Validate a domain's settings; InvalidPolicy names each wrong field and says why."""
    return _read(DomainPolicy, settings)


def read_tenant_policy(settings: Mapping[str, Any]) -> TenantPolicy:
    """Validate a tenant's settings; InvalidPolicy names each wrong field and says why."""
    return _read(TenantPolicy, settings)


def _read(model: type[M], settings: Mapping[str, Any]) -> M:
    try:
        policy = model.model_validate(dict(settings))
    except ValidationError as error:
        faults = "; ".join(_told(model, fault) for fault in error.errors(include_url=False))
        raise InvalidPolicy(faults) from error
    for name, value in flat(settings):
        # Python takes true for 1.
        if isinstance(value, bool) and not isinstance(_at(policy, name), bool):
            raise InvalidPolicy(f"{name}: a number is needed, not {str(value).lower()}")
    return policy


def _at(policy: BaseModel, name: str) -> Any:
    place: Any = policy
    for part in name.split("."):
        place = getattr(place, part)
    return place


def _told(model: type[BaseModel], fault: Any) -> str:
    name = ".".join(str(part) for part in fault["loc"]) or "policy"
    if fault["type"] != "extra_forbidden":
        return f"{name}: {fault['msg'].removeprefix('Value error, ')}"
    import difflib  # only for whoever made a mistake

    close = difflib.get_close_matches(name, _names(model().model_dump()), n=1)
    return f"{name}: there is no such setting" + (f"; did you mean {close[0]}?" if close else "")


def _names(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every setting and every group of them, with dots."""
    names = [f"{prefix}{name}" for name in settings]
    for name, value in settings.items():
        if isinstance(value, Mapping):
            names += _names(value, f"{prefix}{name}.")
    return names
