"""How mail leaves for a destination: the settings of each kind of route, as policy holds them.

What a wrong setting comes to is not decided here: a route whose secret or host is missing costs time, never
mail.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from empath.domain.host_name import is_host_name

MAX_HOSTS = 10

SUBMISSION_PORT = 587
SUBMISSIONS_PORT = 465  # RFC 8314 §3.3
LMTP_PORT = 24  # IANA's; RFC 2033 §5 has none, only that it must not be 25


def _host(value: str) -> str:
    if value.startswith(("/", "unix:", "@")):
        raise ValueError(
            "Unix sockets are not connected to, since a function has no neighbours: let the store listen on"
            " an address (Dovecot: an inet_listener of service lmtp) and give host and port"
        )
    name = value.lower().removesuffix(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        if not is_host_name(name):
            raise ValueError("a host is a name in A-labels or an IP address") from None
        return name


def _url(value: str) -> str:
    if not value.isprintable() or " " in value:
        raise ValueError("a URL has neither spaces nor control characters")
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError as error:
        raise ValueError(f"no URL: {error}") from None
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("a URL that begins with https:// and names a host is needed")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL in a policy is no place for a password: the signature proves who posts")
    if parts.fragment:
        raise ValueError("what follows a # is never sent")
    _host(parts.hostname)
    return value


HostField = Annotated[str, AfterValidator(_host)]
SecretName = Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^\S+$")]
"""The name or ARN of a secret."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MxRoute(_Settings):
    """The destination's mail exchangers."""

    kind: Literal["mx"] = "mx"


class RouteHost(_Settings):
    """A host that an operator named."""

    host: HostField
    port: int | None = Field(default=None, ge=1, le=65_535)
    """None: the one that is usual for the route."""
    preference: int = Field(default=10, ge=0, le=65_535)
    """Lower ones first; equal ones in random order, as with MX records."""


class SmarthostRoute(_Settings):
    """Another relay, which takes mail for everywhere."""

    kind: Literal["smarthost"]
    hosts: tuple[RouteHost, ...] = Field(min_length=1, max_length=MAX_HOSTS)
    encryption: Literal["starttls", "implicit"] = "starttls"
    """How TLS begins; the policy's `tls` says whether it must."""
    secret: SecretName | None = None
    """A secret that holds {"username": ..., "password": ...}; None: no AUTH."""

    @property
    def default_port(self) -> int:
        return SUBMISSIONS_PORT if self.encryption == "implicit" else SUBMISSION_PORT


class LmtpRoute(_Settings):
    """A mail store (RFC 2033): each recipient is answered for after the message."""

    kind: Literal["lmtp"]
    hosts: tuple[RouteHost, ...] = Field(min_length=1, max_length=MAX_HOSTS)

    @property
    def default_port(self) -> int:
        return LMTP_PORT


class SesRoute(_Settings):
    """Amazon SES by its API, with the role of the function."""

    kind: Literal["ses"]
    region: str | None = Field(default=None, pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    """None: the function's own."""
    configuration_set: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")


class WebhookRoute(_Settings):
    """An HTTPS POST, signed."""

    kind: Literal["webhook"]
    url: Annotated[str, Field(max_length=2048), AfterValidator(_url)]
    secret: SecretName
    """A secret that holds the key of the signature, as text."""
    timeout: float = Field(default=30, ge=1, le=300)
    """Seconds from the last octet of the request to the answer."""


class SinkRoute(_Settings):
    """Nowhere: mail counts as sent and is dropped. For tests."""

    kind: Literal["sink"]


RouteSettings = Annotated[
    MxRoute | SmarthostRoute | LmtpRoute | SesRoute | WebhookRoute | SinkRoute, Field(discriminator="kind")
]
"""Every kind that there is; `bootstrap.routes` has what each is made with."""

RouteKind = Literal["mx", "smarthost", "lmtp", "ses", "webhook", "sink"]

FINAL: frozenset[RouteKind] = frozenset({"lmtp", "webhook", "sink"})
"""Where mail has arrived: "delivered" in the words of RFC 3464 §2.3.3, and not "relayed"."""
