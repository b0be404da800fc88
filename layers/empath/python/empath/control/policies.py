"""Policies as an operator reads and changes them: plain functions over their items.

A change is judged before it is written, together with what it is laid over; one of `*` together with every
item that lies over it, too, since an item that is wrong is ignored and nobody would hear of it here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from empath.control.dns_reading import read_domain
from empath.control.errors import BadUsage, ControlError
from empath.domain.errors import InvalidPolicy
from empath.domain.policy import flat, merge_policy, read_policy, read_tenant_policy
from empath.domain.policy_items import EVERYBODY
from empath.domain.user import MAX_TENANT
from empath.ports.policies import Policies, PolicyItem
from empath.smtp.domain_names import to_a_labels

TENANT = "tenant:"

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One setting in force."""

    name: str
    """With dots: `retry.expiry`."""
    value: Any
    origin: str
    """The item that says so, or `default`."""


@dataclass(frozen=True, slots=True)
class Change:
    name: str
    before: Settings | None
    after: Settings | None
    """None: there is no item (any more)."""


def read_policy_name(text: str) -> str:
    """A domain in A-labels, `*`, `tenant:<name>` or `tenant:*`. Raises BadUsage."""
    name = text.strip()
    if name.lower().startswith(TENANT):
        tenant = name[len(TENANT) :]
        if not tenant or not tenant.isprintable() or len(tenant) > MAX_TENANT:
            raise BadUsage(f"{text!r} names no tenant: use tenant:NAME, or 'tenant:*' for all of them")
        return f"{TENANT}{tenant}"
    if name == EVERYBODY:
        return name
    domain = read_domain(name)
    try:
        return domain if domain.startswith("[") else to_a_labels(domain)
    except ValueError as error:
        raise BadUsage(f"{text!r} is no domain: {error}") from None


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """Settings from `field=value`, dots between a field and one inside it. Raises BadUsage.

    A value is JSON (`5`, `true`, `null`, `["a", "b"]`, `{"limit": "10/s"}`), and anything else is text.
    """
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not all(name.split(".")):
            raise BadUsage(f"{word!r} is no setting: write FIELD=VALUE, such as retry.expiry=86400")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        _place(settings, name, value)
    return settings


def read_document(text: str, where: str) -> dict[str, Any]:
    """Settings from a JSON object. Raises BadUsage."""
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise BadUsage(f"{where} is no JSON: {error}") from None
    if not isinstance(settings, dict):
        raise BadUsage(f"{where} should hold a JSON object of settings")
    return settings


async def in_force(policies: Policies, name: str) -> list[Field]:
    """Every setting for a name, and who says so. Raises ControlError when the items there are wrong."""
    everybody = everybody_of(name)
    below = await _settings(policies, everybody) if name != everybody else {}
    _judged(everybody, below, {})
    own = await _settings(policies, name)
    judged = _judged(name, own, below)
    merged = merge_policy(below, own)

    def origin(field: str) -> str:
        if not _has(merged, field):
            return "default"
        return name if _has(own, field) else everybody

    values = judged.model_dump(mode="json")
    return [Field(field, value, origin(field)) for field, value in flat(values)]


async def change(
    policies: Policies, name: str, settings: Settings, *, replace: bool = False, dry_run: bool = False
) -> Change:
    """Lay settings over those of an item, or put them in place of it.

    Raises BadUsage when they are wrong, and ControlError when what is there is, or when somebody else
    changes it at the same time.
    """
    before = await policies.get(name)
    known = {} if before is None or replace else _readable(before)
    after = merge_policy(known, settings)
    await _judge(policies, name, after)
    if not dry_run and not await policies.put(name, after, before=before):
        raise _changed_meanwhile(name)
    return Change(name, before.settings if before is not None else None, after)


async def take_back(policies: Policies, name: str, fields: Sequence[str], *, dry_run: bool = False) -> Change:
    """Remove fields of an item; without any, or when none is left, the item. Raises as `change` does."""
    before = await policies.get(name)
    if before is None:
        raise ControlError(f"there is no policy {name}", "see `empathctl policy list`")
    after: dict[str, Any] = {}
    if fields:
        after = json.loads(json.dumps(_readable(before)))
        for field in fields:
            if not _has(after, field):
                has = ", ".join(name for name, _ in flat(after))
                raise BadUsage(f"policy {name} does not set {field!r}; it sets {has or 'nothing'}")
            _remove(after, field)
    await _judge(policies, name, after)
    if not dry_run:
        done = policies.put(name, after, before=before) if after else policies.delete(before)
        if not await done:
            raise _changed_meanwhile(name)
    return Change(name, before.settings, after or None)


async def faults(policies: Policies) -> dict[str, str]:
    """What is wrong with the items there are, by name."""
    items = await policies.all()
    readable = {item.name: item.settings for item in items if item.settings is not None}
    found = {item.name: item.fault for item in items if item.fault is not None}
    for name, settings in readable.items():
        everybody = everybody_of(name)
        below = readable.get(everybody, {}) if name != everybody and everybody not in found else {}
        fault = _fault(name, settings, below)
        if fault is not None:
            found[name] = fault
    return dict(sorted(found.items()))


def everybody_of(name: str) -> str:
    """The item that `name` lies over, or is."""
    return f"{TENANT}{EVERYBODY}" if name.startswith(TENANT) else EVERYBODY


async def _judge(policies: Policies, name: str, after: Settings) -> None:
    if name != everybody_of(name):
        _judged(name, after, await _below(policies, name), error=BadUsage)
        return
    _judged(name, after, {}, error=BadUsage)
    # What a wrong `*` of before made wrong is not the fault of this one.
    before = await faults(policies)
    for item in await policies.all():
        if item.name == name or everybody_of(item.name) != name or item.settings is None:
            continue
        fault = _fault(item.name, item.settings, after)
        if fault is not None and item.name not in before:
            raise BadUsage(f"with it policy {item.name} would be wrong: {fault}")


async def _below(policies: Policies, name: str) -> Settings:
    """The settings that those of `name` are laid over, as far as they are good."""
    everybody = everybody_of(name)
    item = await policies.get(everybody) if name != everybody else None
    if item is None or item.settings is None or _fault(everybody, item.settings, {}) is not None:
        return {}
    return item.settings


async def _settings(policies: Policies, name: str) -> Settings:
    item = await policies.get(name)
    return {} if item is None else _readable(item)


def _judged(name: str, own: Settings, below: Settings, error: type[ControlError] = ControlError) -> BaseModel:
    read = read_tenant_policy if name.startswith(TENANT) else read_policy
    try:
        return read(merge_policy(below, own))
    except InvalidPolicy as fault:
        raise error(f"policy {name}: {fault}") from None


def _fault(name: str, own: Settings, below: Settings) -> str | None:
    try:
        _judged(name, own, below)
    except ControlError as error:
        return error.problem.removeprefix(f"policy {name}: ")
    return None


def _readable(item: PolicyItem) -> Settings:
    if item.settings is None:
        raise ControlError(
            f"policy {item.name} cannot be read: {item.fault}",
            "replace it with `policy set --replace`, or remove it with `policy unset`",
        )
    return item.settings


def _changed_meanwhile(name: str) -> ControlError:
    return ControlError(
        f"somebody else changed policy {name} at the same time, and nothing was written",
        "look at it with `empathctl policy show` and try again",
    )


def _place(settings: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        inner = settings.setdefault(part, {})
        if not isinstance(inner, dict):
            raise BadUsage(f"{name!r} is inside {part!r}, which has a value of its own")
        settings = inner
    if last in settings:
        raise BadUsage(f"{name!r} is given twice")
    settings[last] = value


def _has(settings: Settings, name: str) -> bool:
    place: Any = settings
    for part in name.split("."):
        if not isinstance(place, Mapping) or part not in place:
            return False
        place = place[part]
    return True


def _remove(settings: dict[str, Any], name: str) -> None:
    first, _, rest = name.partition(".")
    if not rest:
        del settings[first]
        return
    _remove(settings[first], rest)
    if not settings[first]:
        del settings[first]
