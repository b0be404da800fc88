"""Shared DNS answers and operators' orders in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from empath.ports import DnsAnswer, DnsOrders, DnsOverride


class MemoryDnsCache:
    """Answers in a dict by domain; `kept` and `said` are open for a test."""

    def __init__(self) -> None:
        self.kept: dict[str, DnsAnswer] = {}
        self.said = DnsOrders()

    async def orders(self) -> DnsOrders:
        return self.said

    async def answer(self, domain: str) -> DnsAnswer | None:
        return self.kept.get(domain)

    async def keep(self, answer: DnsAnswer, *, forget_at: datetime) -> None:
        self.kept[answer.name] = answer

    async def answers(self, limit: int) -> tuple[Sequence[DnsAnswer], bool]:
        found = [self.kept[domain] for domain in sorted(self.kept)]
        return found[:limit], len(found) > limit

    async def override(self, domain: str, override: DnsOverride | None) -> None:
        overrides = {name: known for name, known in self.said.overrides.items() if name != domain}
        self.said = replace(self.said, overrides=overrides | ({domain: override} if override else {}))

    async def clear(self, domain: str | None, now: datetime) -> int:
        if domain is None:
            self.said = replace(self.said, cleared={}, all_cleared=now)
            count = len(self.kept)
            self.kept.clear()
            return count
        self.said = replace(self.said, cleared={**self.said.cleared, domain: now})
        return 0 if self.kept.pop(domain, None) is None else 1
