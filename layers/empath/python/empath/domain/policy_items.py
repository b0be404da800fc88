"""Which policy is in force while items come, go and are sometimes wrong.

An item is the settings of one domain, or of `*`. A wrong item never replaces a good one: what was in force
stays in force until somebody writes a good one, and whoever read the item hears why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from empath.domain.errors import InvalidPolicy
from empath.domain.policy import DomainPolicy, merge_policy, read_policy

EVERY_DOMAIN = "*"

Settings = Mapping[str, Any]


class PolicyItems:
    """The last good settings of every item seen so far."""

    def __init__(self) -> None:
        self._good: dict[str, Settings] = {}
        self._in_force: dict[str, DomainPolicy] = {}

    def check(self, domain: str, settings: Settings) -> DomainPolicy:
        """The policy that these settings would make. Raises InvalidPolicy."""
        if domain == EVERY_DOMAIN:
            return read_policy(settings)
        return read_policy(merge_policy(self._good.get(EVERY_DOMAIN, {}), settings))

    def take(self, domain: str, settings: Settings) -> None:
        """Put settings in force (empty: the item is gone). Raises InvalidPolicy and changes nothing then."""
        self.check(domain, settings)
        self._good[domain] = dict(settings)

    def policy(self, domain: str) -> DomainPolicy:
        """`domain` over `*` over the defaults, each in its last good version."""
        try:
            policy = self.check(domain, self._good.get(domain, {}))
        except InvalidPolicy:
            # Good by itself once, at odds with a later `*`: what it last made together with one stays.
            return self._in_force.get(domain) or self.policy(EVERY_DOMAIN)
        self._in_force[domain] = policy
        return policy

    def forget(self, domain: str) -> None:
        """Know no more about `domain` than before it was first seen."""
        self._good.pop(domain, None)
        self._in_force.pop(domain, None)
