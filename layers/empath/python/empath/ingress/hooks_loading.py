"""Finds hooks: in modules that a setting names, and in packages that are installed for it.

What cannot be used ends the start with a ConfigError that names it; nothing is skipped in silence.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import entry_points
from types import ModuleType

import pluggy

from empath.domain.errors import ConfigError
from empath.ingress.hooks import NAMES, PROJECT, Specs
from empath.ingress.hooks_runner import THREADS, TIME_LIMIT, Hook, Hooks

SETTING = "EMPATH_HOOKS"

GROUP = "empath.hooks"
"""Of entry points, each of which names a module."""


def load_hooks(
    modules: Collection[str], *, time_limit: float = TIME_LIMIT, threads: int = THREADS
) -> Hooks | None:
    """The hooks of all `modules` and entry points, or None when there are none at all.

    Of one kind, hooks are called in the order of `modules`, entry points last, unless pluggy's `tryfirst` and
    `trylast` say otherwise. Raises ConfigError.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Specs)
    found = dict([*_named(modules), *_installed()])
    origins = dict.fromkeys(found, GROUP) | dict.fromkeys(modules, SETTING)
    for name in reversed(found):  # pluggy calls the last first
        _register(manager, name, found[name], origins[name])
    hooks = {name: _hooks_of(getattr(manager.hook, name), origins) for name in NAMES}
    return Hooks(hooks, time_limit=time_limit, threads=threads) if any(hooks.values()) else None


def _named(modules: Collection[str]) -> Iterator[tuple[str, ModuleType]]:
    for name in dict.fromkeys(modules):
        try:
            yield name, importlib.import_module(name)
        except Exception as error:  # a module may raise whatever it likes
            raise ConfigError(f"{SETTING}: module {name} cannot be imported: {_words(error)}") from error


def _installed() -> Iterator[tuple[str, ModuleType]]:
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            yield point.value, point.load()
        except Exception as error:
            raise ConfigError(
                f"entry point {point.name} of {GROUP} cannot be loaded: {_words(error)}"
            ) from error


def _register(manager: pluggy.PluginManager, name: str, module: ModuleType, origin: str) -> None:
    try:
        manager.register(module, name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError(f"{origin}: module {name} cannot be used: {reason}") from error
    callers = manager.get_hookcallers(module)
    if not callers:
        raise ConfigError(f"{origin}: module {name} has no function that is marked @hookimpl")


def _hooks_of(caller: pluggy.HookCaller, origins: Mapping[str, str]) -> list[Hook]:
    return [
        _hook(implementation, origins[implementation.plugin_name])
        for implementation in reversed(caller.get_hookimpls())
    ]


def _hook(implementation: pluggy.HookImpl, origin: str) -> Hook:
    function = implementation.function
    name = f"{implementation.plugin_name}.{function.__name__}"
    if implementation.wrapper or implementation.hookwrapper:
        raise ConfigError(f"{origin}: hook {name} cannot be used: wrappers have nothing to wrap here")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{origin}: hook {name} cannot be used: it is a generator")
    return Hook(name, function, tuple(implementation.argnames), inspect.iscoroutinefunction(function))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
