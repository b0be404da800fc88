"""Runtime policy, changed by operators without a deploy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from empath.domain.policy import DomainPolicy


class Control(Protocol):
    async def policy(self, domain: str) -> DomainPolicy:
        """The policy in force for a destination: `policy#<domain>` over `policy#*` over the defaults.

        May be up to 30 s old. An item that is not valid leaves the last good one in force.
        Raises ControlTrouble when it cannot be read and nothing is known from before.
        """

    async def set_policy(self, domain: str, settings: Mapping[str, Any]) -> None:
        """Replace `policy#<domain>` (`*` for all). Raises InvalidPolicy, and writes nothing then."""
