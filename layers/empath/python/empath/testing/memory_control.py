"""Runtime policy in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from empath.domain.errors import InvalidPolicy
from empath.domain.policy import DomainPolicy
from empath.domain.policy_items import EVERY_DOMAIN, PolicyItems
from empath.ports.metrics import Metrics


class MemoryControl:
    """Policies in a dict, always fresh. `items` is open for a test, wrong ones included."""

    def __init__(
        self, items: Mapping[str, Mapping[str, Any]] | None = None, *, metrics: Metrics | None = None
    ) -> None:
        self.items: dict[str, Mapping[str, Any]] = dict(items or {})
        self._metrics = metrics
        self._known = PolicyItems()

    async def policy(self, domain: str) -> DomainPolicy:
        domain = domain.lower()
        for name in (EVERY_DOMAIN, domain):
            try:
                self._known.take(name, self.items.get(name, {}))
            except InvalidPolicy:
                if self._metrics is not None:
                    self._metrics.count("invalid_policy")
        return self._known.policy(domain)

    async def set_policy(self, domain: str, settings: Mapping[str, Any]) -> None:
        domain = domain.lower()
        await self.policy(EVERY_DOMAIN)
        self._known.check(domain, settings)
        self.items[domain] = dict(settings)
