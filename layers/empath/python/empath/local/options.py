"""What the local stack can be told, by flags or by environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from empath.local.errors import LocalStackError
from empath.net.nameserver import parse_nameserver

HOST = "127.0.0.1"
DEFAULT_STATE_DIR = Path(".empath")

PORTS = {
    "smtp_port": ("EMPATH_SMTP_PORT", 2525),
    "aws_port": ("EMPATH_AWS_PORT", 4566),
    "inbox_port": ("EMPATH_INBOX_PORT", 2526),
    "dns_port": ("EMPATH_DNS_PORT", 2553),
}
"""Field, environment variable, default."""

PORTS_IF_FREE = {
    "submission_port": ("EMPATH_SUBMISSION_PORT", 2587),
    "submissions_port": ("EMPATH_SUBMISSIONS_PORT", 2465),
    "health_port": ("EMPATH_HEALTH_PORT", 2580),
}
"""The same. Where nothing says otherwise and the default is in use, the next free one is taken."""


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """Where the local stack keeps its things and listens."""

    state_dir: Path = DEFAULT_STATE_DIR
    smtp_port: int = 2525
    aws_port: int = 4566
    inbox_port: int = 2526
    dns_port: int = 2553
    submission_port: int | None = None
    """None: the default, or the next free one; likewise the next two."""
    submissions_port: int | None = None
    health_port: int | None = None
    nameservers: str | None = None
    """`host:port,...` that the functions ask instead of the built-in DNS server."""
    internet_address: str = HOST
    """The IPv4 address that the inbox and the DNS server listen on, and that the functions reach them by;
    another one than 127.0.0.1 for functions in containers."""
    mx_port: int | None = None
    """The port that next hops listen on, instead of the inbox's."""
    endpoint_url: str | None = None
    """An AWS endpoint that already runs (LocalStack), instead of the embedded one."""
    client_ca: Path | None = None
    """A PEM file with the authorities of client certificates."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the deployment (infra/settings.py) that differ from the local profile's."""

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, state_dir: Path | None = None, **flags: int | None
    ) -> LocalOptions:
        """Flags (fields named as here, None when not given) over environment over defaults.

        Raises LocalStackError that names the variable or flag and says what it should hold.
        """
        chosen = state_dir or Path(environ.get("EMPATH_STATE_DIR") or DEFAULT_STATE_DIR)
        ports: dict[str, int] = {}
        for option, (variable, default) in (PORTS | PORTS_IF_FREE).items():
            flag = flags.get(option)
            name = f"--{option.replace('_', '-')}" if flag is not None else variable
            chosen_port = flag if flag is not None else environ.get(variable)
            if chosen_port or option in PORTS:
                ports[option] = _port(name, chosen_port or default)
        mx_port = environ.get("EMPATH_MX_PORT")
        client_ca = environ.get("EMPATH_TLS_CLIENT_CA")
        options = cls(
            state_dir=chosen,
            nameservers=_nameservers(environ.get("EMPATH_NAMESERVERS") or None),
            internet_address=_address(environ.get("EMPATH_INTERNET_ADDRESS") or HOST),
            mx_port=_port("EMPATH_MX_PORT", mx_port) if mx_port else None,
            endpoint_url=_endpoint(environ.get("AWS_ENDPOINT_URL") or None),
            client_ca=Path(client_ca).resolve() if client_ca else None,
            settings=_settings(environ.get("EMPATH_SETTINGS") or ""),
            **ports,
        )
        options.require_distinct_ports()
        return options

    def require_distinct_ports(self) -> None:
        """Two listeners on one port would fail later, with less to say about it."""
        taken: dict[int, str] = {}
        for option, (variable, _) in (PORTS | PORTS_IF_FREE).items():
            port = getattr(self, option)
            if port is None:
                continue
            if port in taken:
                raise LocalStackError(
                    f"{variable} and {taken[port]} are both {port}", "give each its own port"
                )
            taken[port] = variable


def _port(name: str, value: int | str) -> int:
    try:
        port = int(value)
    except ValueError:
        port = -1
    if not 1 <= port <= 65_535:
        raise LocalStackError(f"{name} is {value!r}", "it should be a port number from 1 to 65535")
    return port


def _address(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise LocalStackError(
            f"EMPATH_INTERNET_ADDRESS is {value!r}",
            "it should be an IPv4 address of this machine that the functions can reach",
        ) from None


def _endpoint(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise LocalStackError(
            f"AWS_ENDPOINT_URL is {value!r}",
            "it should be a URL such as http://127.0.0.1:4566, or not be set to start the embedded AWS",
        )
    return value


def _settings(value: str) -> Mapping[str, str]:
    settings: dict[str, str] = {}
    for pair in value.split():
        name, _, settings[name] = pair.partition("=")
        if not name or "=" not in pair:
            raise LocalStackError(
                f"EMPATH_SETTINGS has {pair!r}",
                "it should be settings of the deployment, NAME=VALUE, with spaces between",
            )
    return settings


def _nameservers(value: str | None) -> str | None:
    for server in filter(None, (part.strip() for part in (value or "").split(","))):
        try:
            parse_nameserver(server)
        except ValueError as error:
            raise LocalStackError(
                f"EMPATH_NAMESERVERS has {server!r}, which is no name server ({error})",
                "it should be IP addresses, each with :port if that is not 53, and commas between",
            ) from None
    return value
