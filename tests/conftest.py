"""How the suite is shared between processes (pytest-xdist): what deploys or builds something once for many
tests stays in one process, and begins first, for it takes longest."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
TOGETHER = ("e2e", "infra")


def _room(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _room(item) in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(_room(item)))
    items.sort(key=lambda item: _room(item) not in TOGETHER)
