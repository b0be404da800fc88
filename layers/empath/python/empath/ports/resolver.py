"""DNS as mail needs it. The rules of RFC 5321 §5.1 are in `pipeline.routing`, not here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from empath.domain.network import IPAddress


@dataclass(frozen=True, slots=True, order=True)
class MailExchanger:
    """One MX record; `exchange` in lower case without its final dot (empty for the root)."""

    preference: int
    exchange: str


class Resolver(Protocol):
    async def mail_exchangers(self, domain: str) -> Sequence[MailExchanger]:
        """The MX records of `domain`, in no order; empty when the domain exists and has none.

        CNAMEs are followed. Raises PermanentRefusal (550 5.1.2, NO_SUCH_DOMAIN) when the domain does
        not exist or is no possible name, TransientRefusal (451 4.4.3, DNS_TROUBLE) when there is no
        usable answer.
        """

    async def addresses(self, host: str) -> Sequence[IPAddress]:
        """The A, then the AAAA addresses of `host`; empty when it has none or does not exist.

        Raises TransientRefusal (451 4.4.3, DNS_TROUBLE) when there is no usable answer.
        """
