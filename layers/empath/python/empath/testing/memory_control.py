"""Runtime policy in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from empath.domain.errors import InvalidPolicy
from empath.domain.policy import DomainPolicy, read_policy, read_tenant_policy, unknown_policy
from empath.domain.policy_items import EVERYBODY, PolicyItems
from empath.domain.report_policy import TenantPolicy
from empath.ports.metrics import Metrics

P = TypeVar("P")


class MemoryControl:
    """Policies in dicts, always fresh. `items` and `tenants` are open for a test, wrong ones included."""

    def __init__(
        self, items: Mapping[str, Mapping[str, Any]] | None = None, *, metrics: Metrics | None = None
    ) -> None:
        self.items: dict[str, Mapping[str, Any]] = dict(items or {})
        self.tenants: dict[str, Mapping[str, Any]] = {}
        self._metrics = metrics
        self._domain_policies = PolicyItems(read_policy, when_unknown=unknown_policy)
        self._tenant_policies = PolicyItems(read_tenant_policy)

    async def policy(self, domain: str) -> DomainPolicy:
        return self._read(domain.lower(), self.items, self._domain_policies)

    async def tenant_policy(self, tenant: str | None) -> TenantPolicy:
        return self._read(tenant or EVERYBODY, self.tenants, self._tenant_policies)

    async def set_policy(self, domain: str, settings: Mapping[str, Any]) -> None:
        self._write(domain.lower(), settings, self.items, self._domain_policies)

    async def set_tenant_policy(self, tenant: str, settings: Mapping[str, Any]) -> None:
        self._write(tenant, settings, self.tenants, self._tenant_policies)

    def _read(self, name: str, items: Mapping[str, Mapping[str, Any]], known: PolicyItems[P]) -> P:
        for each in (EVERYBODY, name):
            try:
                known.take(each, items.get(each, {}))
            except InvalidPolicy:
                if self._metrics is not None:
                    self._metrics.count("invalid_policy")
        return known.policy(name)

    def _write(
        self,
        name: str,
        settings: Mapping[str, Any],
        items: dict[str, Mapping[str, Any]],
        known: PolicyItems[P],
    ) -> None:
        self._read(EVERYBODY, items, known)
        known.check(name, settings)
        items[name] = dict(settings)
