"""DNS as mail needs it. The rules of RFC 5321 §5.1 are in `pipeline.routing`, not here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from empath.domain.network import IPAddress


@dataclass(frozen=True, slots=True, order=True)
class MailExchanger:
    """One MX record; `exchange` in lower case without its final dot (empty for the root).

    Where an operator overrides DNS, it may be an address literal.
    """

    preference: int
    exchange: str

    def __str__(self) -> str:
        """As a zone file has it: `10 mx.example.com`, `0 .`."""
        return f"{self.preference} {self.exchange or '.'}"

    @classmethod
    def parse(cls, text: str) -> MailExchanger:
        """The inverse of `str`; ValueError for anything else."""
        preference, _, exchange = text.partition(" ")
        if not (preference.isascii() and preference.isdigit() and int(preference) <= 65_535 and exchange):
            raise ValueError(f"no MX record: {text[:80]!r}")
        return cls(int(preference), "" if exchange == "." else exchange)


@dataclass(frozen=True, slots=True)
class MailExchangers:
    """What DNS, or an operator in its place, says about a domain's mail."""

    records: tuple[MailExchanger, ...]
    """In no order; empty when the domain exists and has none."""
    name: str
    """The domain as DNS knows it: A-labels in lower case, and what its CNAMEs lead to."""
    authenticated: bool = False
    """The name server says that it checked the answer by DNSSEC (the AD bit, RFC 4035 §3.2.3)."""
    overridden: bool = False
    """An operator said so, and DNS was not asked."""


class Resolver(Protocol):
    async def mail_exchangers(self, domain: str) -> MailExchangers:
        """The MX records of `domain`.

        CNAMEs are followed. Raises PermanentRefusal (550 5.1.2, NO_SUCH_DOMAIN) when the domain does
        not exist or is no possible name, TransientRefusal (451 4.4.3, DNS_TROUBLE) when there is no
        usable answer.
        """

    async def addresses(self, host: str) -> Sequence[IPAddress]:
        """The A, then the AAAA addresses of `host`; empty when it has none or does not exist.

        Raises TransientRefusal (451 4.4.3, DNS_TROUBLE) when there is no usable answer.
        """
