"""Bugs planted into the code on purpose, to see that the simulator finds them.

A mutant is a module in `mutants/`: its docstring says what is wrong, `PATCHES` holds (module, old text, new
text). The text is exchanged while the module is imported, and the whole library is imported anew round it, so
that every module that uses it gets the bug.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

MUTANTS = Path(__file__).with_name("mutants")
ROOT = "empath"


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    about: str
    patches: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Caught:
    invariant: str
    seed: int


def mutants() -> list[Mutant]:
    """Every mutant, by name."""
    found = []
    for path in sorted(MUTANTS.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"mutant_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found.append(Mutant(path.stem, " ".join((module.__doc__ or "").split()), module.PATCHES))
    return found


class _Patching(MetaPathFinder):
    def __init__(self, patches: Sequence[tuple[str, str, str]]) -> None:
        self._patches = patches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        ours = [(old, new) for module, old, new in self._patches if module == fullname]
        if not ours:
            return None
        spec = PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _PatchingLoader(fullname, spec.origin, ours)
        return spec


class _PatchingLoader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, patches: Sequence[tuple[str, str]]) -> None:
        super().__init__(fullname, path)
        self._patches = patches

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname) or ""
        for old, new in self._patches:
            assert source.count(old) == 1, f"the patch no longer fits {fullname}: {old[:80]!r}"
            source = source.replace(old, new)
        # Under another name, so that nobody takes its lines for those of the real file.
        return compile(source, f"<planted in {self.path}>", "exec")


@contextmanager
def planted(mutant: Mutant) -> Iterator[Any]:
    """The package of the simulator, over a library with the bug in it."""
    kept = {name: module for name, module in sys.modules.items() if _is_ours(name)}
    for name in kept:
        del sys.modules[name]
    finder = _Patching(mutant.patches)
    sys.meta_path.insert(0, finder)
    try:
        yield importlib.import_module(f"{ROOT}.testing.simulation")
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(kept)


def _is_ours(name: str) -> bool:
    return name == ROOT or name.startswith(f"{ROOT}.")


def hunt(mutant: Mutant, seeds: Sequence[int]) -> Caught | None:
    """Run seeds until one catches the mutant; None when none does."""
    with planted(mutant) as simulation:
        for number, seed in enumerate(seeds):
            result = simulation.run(simulation.plan_of(seed))
            if result.violations:
                return Caught(result.violations[0].invariant, seed)
            if number % 20 == 19:
                gc.collect()
    return None
