"""The shape of the code base: sizes, doors, references to the law."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "layers/empath/python/empath"
MAX_LINES = 400
MAX_TEST_LINES = 500
"""A contract suite reads better whole."""
MAX_DOOR_LINES = 40
TOP_LEVEL = {
    "Makefile",
    "README.md",
    "benchmarks",
    "bootstrap.lock",
    "cdk.json",
    "dev.lock",
    "docs",
    "embedded-aws.lock",
    "events",
    "functions",
    "infra",
    "layers",
    "pyproject.toml",
    "tests",
}
LOCKS = {
    "bootstrap.lock",
    "dev.lock",
    "embedded-aws.lock",
    "functions/ingress/ingress.lock",
    "infra/package-lock.json",
    "layers/dependencies/lambda.lock",
}
"""Each for an environment of its own: the tools that build, a developer's, the embedded AWS's, the ingress's
image, the CDK command line's, the functions' layer."""
ROOMS = {"domain", "smtp", "dsn", "ports", "pipeline"}


def _tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in listing.stdout.splitlines() if (ROOT / line).exists()]


TRACKED = _tracked()
MODULES = [path for path in TRACKED if path.suffix == ".py"]
LIBRARY_MODULES = [path for path in MODULES if (ROOT / path).is_relative_to(LIBRARY)]


def test_no_module_is_longer_than_400_lines() -> None:
    def limit(path: Path) -> int:
        return MAX_TEST_LINES if path.parts[0] == "tests" else MAX_LINES

    lines = {path: len((ROOT / path).read_text().splitlines()) for path in MODULES}
    assert {str(path): count for path, count in lines.items() if count > limit(path)} == {}


def test_doors_are_thin() -> None:
    doors = [path for path in MODULES if path.parts[0] == "functions" and path.name != "__init__.py"]
    assert len(doors) == 6
    assert [path for path in doors if len((ROOT / path).read_text().splitlines()) > MAX_DOOR_LINES] == []


def test_the_top_level_stays_as_it_is() -> None:
    top = {path.parts[0] for path in TRACKED}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.is_relative_to(LIBRARY.relative_to(ROOT))], ids=str
)
def test_every_module_of_the_library_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse((ROOT / path).read_text()))


def test_references_to_rfcs_name_their_section_in_one_form() -> None:
    """`RFC 5321 §4.5.3.1`, so that one search finds them all; a whole RFC may be named alone."""
    wrong = re.compile(r"RFC[0-9]{4}|RFC-[0-9]|RFC \d+,? (?:[Ss]ection|sec\.)|RFC \d+ § ")
    found = {
        f"{path}:{number}"
        for path in MODULES
        if path != Path(__file__).relative_to(ROOT)
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1)
        if wrong.search(line)
    }
    assert found == set()


def test_lock_files_name_no_index_host() -> None:
    locks = [path for path in TRACKED if path.suffix == ".lock" or path.name == "package-lock.json"]
    assert {path.as_posix() for path in locks} == LOCKS
    for path in locks:
        text = (ROOT / path).read_text()
        assert "://" not in text, path
        assert "--index-url" not in text


def test_the_core_reads_no_clock_and_no_randomness() -> None:
    """Time, randomness and ids come through ports."""
    forbidden = re.compile(r"datetime\.now\(|time\.time\(|time\.monotonic\(|import random|uuid4|os\.urandom")
    found = {
        str(path)
        for path in LIBRARY_MODULES
        if (ROOT / path).relative_to(LIBRARY).parts[0] in ROOMS
        and forbidden.search((ROOT / path).read_text())
    }
    assert found == set()


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        ["lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
