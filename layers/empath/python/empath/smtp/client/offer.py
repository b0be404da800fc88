"""What a next hop offered in its reply to EHLO, as far as it matters to a transaction.

A value that cannot be read counts as not given: it says nothing that could be relied on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

# size-value ::= 1*20DIGIT, RFC 1870 §5; 0 is no bound (§4)
_SIZE = re.compile(r"[0-9]{1,20}")

# rcptmax-value = %x31-39 0*5DIGIT, and the other two alike, RFC 9422 §4
_LIMIT = re.compile(r"(?P<name>MAILMAX|RCPTMAX|RCPTDOMAINMAX)=(?P<value>[1-9][0-9]{0,5})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Offer:
    keywords: frozenset[str] = frozenset()
    """In upper case."""
    max_size: int | None = None
    """Octets of a message (RFC 1870)."""
    max_messages: int | None = None
    """MAIL commands of a connection (MAILMAX, RFC 9422 §4.1)."""
    max_recipients: int | None = None
    """RCPT commands of a transaction (RCPTMAX, RFC 9422 §4.2)."""
    max_domains: int | None = None
    """Different domains of all recipients of a connection (RCPTDOMAINMAX, RFC 9422 §4.3)."""

    @classmethod
    def of(cls, extensions: Mapping[str, str]) -> Offer:
        """From EHLO keywords, in any case, with what follows them."""
        told = {keyword.upper(): value for keyword, value in extensions.items()}
        size = told.get("SIZE", "").strip()
        limits = {
            match["name"].upper(): int(match["value"])
            for item in told.get("LIMITS", "").split()
            if (match := _LIMIT.fullmatch(item))
        }
        return cls(
            keywords=frozenset(told),
            max_size=(int(size) or None) if _SIZE.fullmatch(size) else None,
            max_messages=limits.get("MAILMAX"),
            max_recipients=limits.get("RCPTMAX"),
            max_domains=limits.get("RCPTDOMAINMAX"),
        )

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    def without(self, keywords: Iterable[str]) -> Offer:
        """The same, as if these extensions were not offered."""
        return replace(self, keywords=self.keywords - frozenset(keywords))


def batches(recipients: Sequence[str], most: int | None) -> list[Sequence[str]]:
    """The recipients in order, at most so many to a transaction (None: no bound)."""
    if most is None or len(recipients) <= most:
        return [recipients]
    return [recipients[begin : begin + most] for begin in range(0, len(recipients), most)]


def by_domains(recipients: Sequence[str], most: int | None) -> list[list[str]]:
    """The recipients in groups of at most so many different domains (None: no bound)."""
    if most is None:
        return [list(recipients)]
    groups: list[list[str]] = []
    domains: set[str] = set()
    by_domain: dict[str, list[str]] = {}
    for recipient in recipients:
        by_domain.setdefault(domain_of(recipient), []).append(recipient)
    for domain, ones in by_domain.items():
        if not groups or len(domains) == most:
            groups.append([])
            domains = set()
        domains.add(domain)
        groups[-1] += ones
    return groups


def domain_of(recipient: str) -> str:
    return recipient.rpartition("@")[2].lower()
