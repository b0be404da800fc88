"""What code imports, and what a lock provides."""

import ast
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from tests.infra.conftest import ROOT


def missing_in(lock: Path, roots: Iterable[Path]) -> dict[str, str]:
    """Third-party modules that the sources below `roots` import and `lock` does not bring, and where."""
    locked = pins(lock).keys()
    providers = metadata.packages_distributions()
    return {
        module: path.relative_to(ROOT).as_posix()
        for root in roots
        for path in ([root] if root.is_file() else root.rglob("*.py"))
        if path.suffix == ".py"
        for module in _imports(path)
        if module not in sys.stdlib_module_names
        and module not in ("empath", "functions")
        and not {_normal(name) for name in providers.get(module, [module])} & locked
    }


def pins(lock: Path) -> dict[str, str]:
    """The version of every package of a lock, by normal name."""
    lines = (line for line in lock.read_text().splitlines() if "==" in line and not line.startswith(" "))
    pairs = (line.split()[0].split("==") for line in lines)
    return {_normal(name): version for name, version in pairs}


def _imports(path: Path) -> Iterator[str]:
    """Top-level names of what a module imports when it runs, so not below `if TYPE_CHECKING`."""
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                yield node.module.partition(".")[0]
        else:
            pending.extend(ast.iter_child_nodes(node))


def _normal(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")
