"""Who may authenticate, and what for."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from empath.domain.address import Mailbox, check_domain
from empath.domain.envelope import Priority
from empath.domain.errors import AddressSyntaxError, InvalidUser, UnreadablePasswordHash
from empath.domain.instant import InstantField
from empath.domain.password import check_encoded

MAX_NAME_OCTETS = 254
"""As long as a mail address, which is what many users are called by."""

MAX_TENANT = 64
MAX_DOMAINS = 100
MAX_MESSAGES_PER_HOUR = 10_000_000

ANY_DOMAIN = "*"


def user_name(text: str) -> str:
    """A user's name in the one form that it is kept in. Raises InvalidUser for what is none.

    In the manner of UsernameCaseMapped (RFC 8265 §3.3), kept simple: compatible characters are one (full
    width and plain), case is folded away, and there are neither spaces nor characters that nobody sees.
    """
    if len(text) > MAX_NAME_OCTETS:
        raise InvalidUser(f"name: is longer than {MAX_NAME_OCTETS} octets")
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    if not name:
        raise InvalidUser("name: is empty")
    # isprintable also turns down what is unassigned, private, a surrogate or a format character.
    if not name.isprintable() or any(char.isspace() for char in name):
        raise InvalidUser("name: has a space or a control character")
    if len(name.encode()) > MAX_NAME_OCTETS:
        raise InvalidUser(f"name: is longer than {MAX_NAME_OCTETS} octets")
    return name


def sender_domain(text: str) -> str:
    """`example.com`, `.example.com` for everything below it, or `*`. Raises InvalidUser."""
    domain = text.strip().lower()
    if domain == ANY_DOMAIN:
        return domain
    try:
        check_domain(domain.removeprefix("."))
        if domain.startswith(".["):
            raise AddressSyntaxError("nothing is below an address literal")
    except AddressSyntaxError as error:
        raise InvalidUser(f"domains: {text[:80]!r}: {error}") from error
    return domain


def _name_field(value: str) -> str:
    try:
        return user_name(value)
    except InvalidUser as error:
        raise ValueError(str(error).removeprefix("name: ")) from error


def _domain_field(value: str) -> str:
    try:
        return sender_domain(value)
    except InvalidUser as error:
        raise ValueError(str(error).removeprefix("domains: ")) from error


def _tenant_field(value: str) -> str:
    if not value.isprintable() or value != value.strip() or not 1 <= len(value) <= MAX_TENANT:
        raise ValueError(f"1 to {MAX_TENANT} printable characters are needed")
    return value


def _hash_field(value: str) -> str:
    try:
        check_encoded(value)
    except UnreadablePasswordHash as error:
        raise ValueError(str(error)) from error
    return value


class User(BaseModel):
    """A user as the `control` table keeps it; `read_user` makes one of words that may be wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, AfterValidator(_name_field)]
    password_hash: Annotated[str, AfterValidator(_hash_field)] | None = Field(default=None, repr=False)
    """See `domain.password`; None: known by a client certificate only, and no password is right."""

    domains: Annotated[
        tuple[Annotated[str, AfterValidator(_domain_field)], ...], Field(max_length=MAX_DOMAINS)
    ] = ()
    """What a reverse-path of this user may have behind its `@`.

    `example.com` is that domain alone, `.example.com` whatever is below it and not itself (as in Postfix's
    access tables), `*` anything. Compared as written, case aside: list the A-label and the U-label of an
    international domain both where users write both.
    """

    tenant: Annotated[str, AfterValidator(_tenant_field)] | None = None
    priority: Priority = "normal"
    messages_per_hour: int | None = Field(default=None, ge=1, le=MAX_MESSAGES_PER_HOUR)
    """None: as many as the deployment grants to a user."""

    revoked_at: InstantField | None = None
    created_at: InstantField

    @property
    def is_revoked(self) -> bool:
        return self.revoked_at is not None

    def may_send_from(self, reverse_path: Mailbox | None) -> bool:
        """Whether a transaction of this user may have this reverse-path; None is the null one.

        The null one is every user's: it claims nobody's name, and notifications (RFC 8098 §3) and
        automatic replies (RFC 3834 §3.3) are sent with it.
        """
        if reverse_path is None:
            return True
        domain = reverse_path.destination
        return any(
            allowed == ANY_DOMAIN
            or (domain.endswith(allowed) if allowed.startswith(".") else domain == allowed)
            for allowed in self.domains
        )


def read_user(words: dict[str, object]) -> User:
    """A user of plain values. Raises InvalidUser, which names each wrong field and never quotes a hash."""
    try:
        return User.model_validate(words)
    except ValidationError as error:
        faults = "; ".join(
            f"{fault['loc'][0] if fault['loc'] else 'user'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise InvalidUser(faults) from error
