"""The items of a MemoryControl, as an operator reads and changes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from empath.ports.policies import PolicyItem
from empath.testing.memory_control import MemoryControl

_TENANT = "tenant:"


class MemoryPolicies:
    def __init__(self, control: MemoryControl) -> None:
        self.control = control

    async def all(self) -> Sequence[PolicyItem]:
        items = self.control.items | {f"{_TENANT}{name}": each for name, each in self.control.tenants.items()}
        return [_read(name, items[name]) for name in sorted(items)]

    async def get(self, name: str) -> PolicyItem | None:
        items, key = self._place(name)
        return _read(name, items[key]) if key in items else None

    async def put(self, name: str, settings: Mapping[str, Any], *, before: PolicyItem | None) -> bool:
        items, key = self._place(name)
        if items.get(key) != (before.version if before is not None else None):
            return False
        items[key] = dict(settings)
        return True

    async def delete(self, before: PolicyItem) -> bool:
        items, key = self._place(before.name)
        if key not in items or items[key] != before.version:
            return False
        del items[key]
        return True

    def _place(self, name: str) -> tuple[dict[str, Mapping[str, Any]], str]:
        tenant = name.removeprefix(_TENANT)
        return (self.control.items, name) if tenant == name else (self.control.tenants, tenant)


def _read(name: str, settings: Any) -> PolicyItem:
    if not isinstance(settings, Mapping):
        return PolicyItem(name, None, fault="settings: not a map", version=settings)
    return PolicyItem(name, settings, version=settings)
