"""Which policy is in force while items come, go and are sometimes wrong.

An item is the settings of one domain (or tenant), or of `*`, which is all of them. A wrong item never
replaces a good one: what was in force stays in force until somebody writes a good one, and whoever read the
item hears why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from empath.domain.errors import InvalidPolicy
from empath.domain.policy import merge_policy

EVERYBODY = "*"

Settings = Mapping[str, Any]
P = TypeVar("P")


class PolicyItems(Generic[P]):
    """The last good settings of every item seen so far, of one kind; `read` validates."""

    def __init__(self, read: Callable[[Settings], P]) -> None:
        self._read = read
        self._good: dict[str, Settings] = {}
        self._in_force: dict[str, P] = {}

    def check(self, name: str, settings: Settings) -> P:
        """The policy that these settings would make. Raises InvalidPolicy."""
        if name == EVERYBODY:
            return self._read(settings)
        return self._read(merge_policy(self._good.get(EVERYBODY, {}), settings))

    def take(self, name: str, settings: Settings) -> None:
        """Put settings in force (empty: the item is gone). Raises InvalidPolicy and changes nothing then."""
        self.check(name, settings)
        self._good[name] = dict(settings)

    def policy(self, name: str) -> P:
        """`name` over `*` over the defaults, each in its last good version."""
        try:
            policy = self.check(name, self._good.get(name, {}))
        except InvalidPolicy:
            # Good by itself once, at odds with a later `*`: what it last made together with one stays.
            return self._in_force.get(name) or self.policy(EVERYBODY)
        self._in_force[name] = policy
        return policy

    def forget(self, name: str) -> None:
        """Know no more about `name` than before it was first seen."""
        self._good.pop(name, None)
        self._in_force.pop(name, None)
