"""DNS answers that all processes share, and what operators said about DNS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from empath.domain.address import address_of_literal
from empath.domain.errors import AddressSyntaxError
from empath.domain.host_name import is_host_name
from empath.ports.resolver import MailExchanger

ORDERS_KEPT = timedelta(hours=26)
"""How long a clearing is remembered: longer than any answer of before it could be of use."""

MAX_OVERRIDE = 20
"""Hosts of an override."""

RecordType = Literal["MX", "A", "AAAA"]


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """What a name server said about a name, and how long that may be believed."""

    name: str
    """A-labels in lower case, without a final dot."""
    rdtype: RecordType
    exists: bool
    """False: NXDOMAIN. A name that exists and has no such records has an empty answer."""
    canonical: str
    """What the name's CNAMEs lead to; itself when it has none."""
    records: tuple[str, ...]
    """As a zone file has them: `10 mx.example.com` (a MailExchanger as text), `192.0.2.1`."""
    authenticated: bool
    """With the AD bit (RFC 4035 §3.2.3)."""
    asked_at: datetime
    fresh_until: datetime

    @property
    def is_negative(self) -> bool:
        return not self.records


@dataclass(frozen=True, slots=True)
class DnsOverride:
    """Where mail for a domain goes whatever DNS says: host names or address literals."""

    exchangers: tuple[MailExchanger, ...]
    set_at: datetime


def read_override(records: Sequence[str], set_at: datetime) -> DnsOverride:
    """An override out of MX records as text; ValueError says what is wrong with them."""
    exchangers = tuple(MailExchanger.parse(record) for record in records)
    if not exchangers:
        raise ValueError("no host at all")
    if len(exchangers) > MAX_OVERRIDE:
        raise ValueError(f"more than {MAX_OVERRIDE} hosts")
    for exchanger in exchangers:
        if exchanger.exchange.startswith("["):
            try:
                address_of_literal(exchanger.exchange)
            except AddressSyntaxError as error:
                raise ValueError(str(error)) from error
        elif not is_host_name(exchanger.exchange):
            raise ValueError(f"neither a host name nor an address literal: {exchanger.exchange[:80]!r}")
    return DnsOverride(exchangers, set_at)


@dataclass(frozen=True, slots=True)
class DnsOrders:
    """What operators said: overrides by domain (A-labels), and which answers are not to be believed."""

    overrides: Mapping[str, DnsOverride] = field(default_factory=dict)
    cleared: Mapping[str, datetime] = field(default_factory=dict)
    """By domain: its answers of before that moment are forgotten."""
    all_cleared: datetime | None = None
    """All answers of before that moment are forgotten."""

    def forgets(self, name: str, asked_at: datetime) -> bool:
        """Whether an answer about `name` of that moment was cleared away."""
        return any(
            moment is not None and asked_at <= moment for moment in (self.all_cleared, self.cleared.get(name))
        )


class DnsCache(Protocol):
    """Every method raises ControlTrouble when the store does not answer. Domains are A-labels."""

    async def orders(self) -> DnsOrders:
        """What operators said, up to 30 s old. An override that is not valid leaves its last good one in
        force; so does trouble, once something is known."""

    async def answer(self, domain: str) -> DnsAnswer | None:
        """The MX answer that some process kept, fresh or not; None when there is none."""

    async def keep(self, answer: DnsAnswer, *, forget_at: datetime) -> None:
        """Share an MX answer, in place of the one before it, until `forget_at`."""

    async def answers(self, limit: int) -> tuple[Sequence[DnsAnswer], bool]:
        """At most `limit` answers by name, and whether there are more; reads everything that is kept."""

    async def override(self, domain: str, override: DnsOverride | None) -> None:
        """Set the override of a domain, or take it away. In force everywhere within 30 s."""

    async def clear(self, domain: str | None, now: datetime) -> int:
        """Forget what was answered about a domain, or everything (None), in this store at once and in the
        memory of every process within 30 s. How many shared answers were deleted."""
