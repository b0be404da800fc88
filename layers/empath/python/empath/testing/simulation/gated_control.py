"""Policies and allowances of a run, behind the gate that every port call goes through."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from empath.domain.errors import ControlTrouble
from empath.domain.policy import DomainPolicy
from empath.domain.report_policy import TenantPolicy
from empath.ports import Control, Quotas
from empath.testing.simulation.ports import Gate


class GatedControl:
    """Policies stand still in a run, so each is read from its port once."""

    def __init__(self, gate: Gate, control: Control) -> None:
        self._gate, self._control = gate, control
        self._known: dict[str, DomainPolicy] = {}

    async def policy(self, domain: str) -> DomainPolicy:
        async def effect() -> DomainPolicy:
            if domain not in self._known:
                self._known[domain] = await self._control.policy(domain)
            return self._known[domain]

        return await self._gate.call("control.policy", effect, trouble=ControlTrouble, about=domain)

    async def tenant_policy(self, tenant: str | None) -> TenantPolicy:
        return await self._gate.call(
            "control.tenant_policy",
            lambda: self._control.tenant_policy(tenant),
            trouble=ControlTrouble,
            about=tenant or "",
        )

    async def set_policy(self, domain: str, settings: Mapping[str, Any]) -> None:
        raise AssertionError("no stage writes policy")

    async def set_tenant_policy(self, tenant: str, settings: Mapping[str, Any]) -> None:
        raise AssertionError("no stage writes policy")


class GatedQuotas:
    def __init__(self, gate: Gate, quotas: Quotas) -> None:
        self._gate, self._quotas = gate, quotas

    async def take(self, key: str, wanted: int, *, limit: int, window: timedelta, now: datetime) -> int:
        return await self._gate.call(
            "quotas.take",
            lambda: self._quotas.take(key, wanted, limit=limit, window=window, now=now),
            trouble=ControlTrouble,
            about=key,
        )
