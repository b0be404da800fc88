"""Runtime policy, changed by operators without a deploy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from empath.domain.policy import DomainPolicy
from empath.domain.report_policy import TenantPolicy


class Control(Protocol):
    """What is read may be up to 30 s old. An item that is not valid leaves the last good one in force; a
    domain whose item (or `*`) was never seen in a good version has an UnknownPolicy, and its mail waits.

    Reading raises ControlTrouble when the store does not answer and nothing is known from before; writing
    raises InvalidPolicy, and writes nothing then.
    """

    async def policy(self, domain: str) -> DomainPolicy:
        """The policy in force for a destination: `policy#<domain>` over `policy#*` over the defaults."""

    async def tenant_policy(self, tenant: str | None) -> TenantPolicy:
        """`policy#tenant:<tenant>` over `policy#tenant:*` over the defaults; None is everybody else."""

    async def set_policy(self, domain: str, settings: Mapping[str, Any]) -> None:
        """Replace `policy#<domain>` (`*` for all)."""

    async def set_tenant_policy(self, tenant: str, settings: Mapping[str, Any]) -> None:
        """Replace `policy#tenant:<tenant>` (`*` for all)."""
