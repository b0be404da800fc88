"""The items behind `Control`, as an operator reads and changes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class PolicyItem:
    """One item as it is, right or wrong."""

    name: str
    """A destination domain, `tenant:<name>`, or `*` and `tenant:*` for all of them."""
    settings: Mapping[str, Any] | None
    """None: they cannot be read at all, for the reason in `fault`."""
    changed_at: str | None = None
    """As the item has it; one that was written by hand may have none, or anything."""
    fault: str | None = None
    version: Any = field(default=None, compare=False, repr=False)
    """What the store knows it by; nobody else looks into it."""


class Policies(Protocol):
    """Names are in lower case, but for a tenant's. Every method raises ControlTrouble."""

    async def all(self) -> Sequence[PolicyItem]:
        """Every item, by name. Reads the whole store."""

    async def get(self, name: str) -> PolicyItem | None:
        """A consistent read; None when there is none."""

    async def put(self, name: str, settings: Mapping[str, Any], *, before: PolicyItem | None) -> bool:
        """Write an item in place of `before`; False, and nothing is written, when that is no longer there
        as it was read. Judges nothing but that the settings can be stored: InvalidPolicy when they cannot."""

    async def delete(self, before: PolicyItem) -> bool:
        """Remove an item; False when it is no longer there as it was read."""
