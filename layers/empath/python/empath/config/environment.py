"""What every model of the environment shares; nobody else reads EMPATH_ variables.

An empty variable counts as one that is not set, because a template writes it that way. What is wrong is a
ConfigError in one line per variable: its name, what it should hold, what it holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from empath.domain.address import check_domain
from empath.domain.errors import AddressSyntaxError
from empath.domain.errors import ConfigError as ConfigError
from empath.domain.lifecycle import LifecycleType
from empath.domain.network import IPNetwork
from empath.domain.redaction import RedactedField
from empath.net.nameserver import parse_nameserver
from empath.ports.queue import QueueName

MAX_PROCESSES = 64


def _comma_list(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _nameservers(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        parse_nameserver(value)
    return values


def _relay_domains(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        name = value.removeprefix(".")
        if name.startswith("["):
            raise ValueError(f"no domain: {value}")
        try:
            check_domain(name)
        except AddressSyntaxError as error:
            raise ValueError(str(error)) from error
    return values


def _port(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() == "off" else value


def _processes(value: Any) -> Any:
    if not isinstance(value, str) or value.strip().lower() != "auto":
        return value
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MAX_PROCESSES)


def _json_object(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


Nameservers = Annotated[tuple[str, ...], BeforeValidator(_comma_list), AfterValidator(_nameservers)]
RelayDomains = Annotated[tuple[str, ...], BeforeValidator(_comma_list), AfterValidator(_relay_domains)]
Names = Annotated[tuple[str, ...], BeforeValidator(_comma_list)]
LifecycleTypes = Annotated[tuple[LifecycleType, ...], BeforeValidator(_comma_list)]
RedactedFields = Annotated[tuple[RedactedField, ...], BeforeValidator(_comma_list)]
Port = Annotated[Annotated[int, Field(ge=0, le=65_535)] | None, BeforeValidator(_port)]
Processes = Annotated[int, Field(ge=1, le=MAX_PROCESSES), BeforeValidator(_processes)]
Networks = Annotated[tuple[IPNetwork, ...], BeforeValidator(_comma_list)]
QueueUrls = Annotated[dict[QueueName, str], BeforeValidator(_json_object)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]
Url = Annotated[str, Field(pattern=r"^https?://\S+$")]


def variable(name: str, default: Any, holds: str) -> Any:
    """A field that is read from the variable `name`, which should hold `holds` (in words)."""
    return Field(default, validation_alias=name, description=holds)


class Environment(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    tracing: Literal["on", "off"] = variable("EMPATH_TRACING", "off", "on or off")
    log_level: LogLevel = variable("EMPATH_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR")

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


def _fault(model: type[BaseModel], name: str, value: str | None) -> str:
    field = next(field for field in model.model_fields.values() if field.validation_alias == name)
    if value is None:
        return f"{name} is not set: it should hold {field.description}"
    return f"{name} should hold {field.description}; it holds {value[:200]!r}"
