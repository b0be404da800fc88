"""How the suite is shared between processes (pytest-xdist).

What deploys or builds something once for many tests stays in one process, and begins first, for it takes
longest. Reports travel between the processes as UTF-8, which has no halves of surrogate pairs (in a captured
log, say): they are escaped.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
TOGETHER = ("e2e", "infra")


def _room(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).parts[0]


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _room(item) in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(_room(item)))
    items.sort(key=lambda item: _room(item) not in TOGETHER)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    data = yield
    return _encodable(data)


def _encodable(data: Any) -> Any:
    match data:
        case str():
            return data.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_encodable(key): _encodable(value) for key, value in data.items()}
        case list() | tuple():
            return [_encodable(value) for value in data]
        case _:
            return data
