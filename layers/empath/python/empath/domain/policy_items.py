"""Which policy is in force while items come, go and are sometimes wrong.

An item is the settings of one domain (or tenant), or of `*`, which is all of them. A wrong item never
replaces a good one: what was in force stays in force until somebody writes a good one, and whoever read the
item hears why. Where no good one was ever seen, what there is instead is for the kind of policy to say.
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
    """The last good settings of every item seen so far, of one kind."""

    def __init__(
        self, read: Callable[[Settings], P], *, when_unknown: Callable[[P], P] | None = None
    ) -> None:
        """`read` validates. `when_unknown` is given what is in force where of an item that has a say only a
        wrong version was ever seen, and says what is instead."""
        self._read = read
        self._when_unknown = when_unknown
        self._unknown: set[str] = set()
        self._good: dict[str, Settings] = {}
        self._in_force: dict[str, P] = {}

    def check(self, name: str, settings: Settings) -> P:
        """The policy that these settings would make. Raises InvalidPolicy."""
        if name == EVERYBODY:
            return self._read(settings)
        return self._read(merge_policy(self._good.get(EVERYBODY, {}), settings))

    def take(self, name: str, settings: Settings) -> None:
        """Put settings in force (empty: the item is gone). Raises InvalidPolicy and changes nothing then."""
        try:
            self.check(name, settings)
        except InvalidPolicy:
            self.pass_over(name)
            raise
        self._unknown.discard(name)
        self._good[name] = dict(settings)

    def pass_over(self, name: str) -> None:
        """There is an item, and it cannot be put in force."""
        if name not in self._good:
            self._unknown.add(name)

    def policy(self, name: str) -> P:
        """`name` over `*` over the defaults, each in its last good version."""
        policy = self._known(name)
        if self._when_unknown is None or self._unknown.isdisjoint((EVERYBODY, name)):
            return policy
        return self._when_unknown(policy)

    def _known(self, name: str) -> P:
        try:
            policy = self.check(name, self._good.get(name, {}))
        except InvalidPolicy:
            # Good by itself once, at odds with a later `*`: what it last made together with one stays.
            return self._in_force.get(name) or self._known(EVERYBODY)
        self._in_force[name] = policy
        return policy

    def forget(self, name: str) -> None:
        """Know no more about `name` than before it was first seen."""
        self._good.pop(name, None)
        self._unknown.discard(name)
        self._in_force.pop(name, None)
