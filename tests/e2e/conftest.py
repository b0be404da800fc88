"""One deployment of the real stacks for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.deployment import Deployment


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment.running(tmp_path_factory.mktemp("local-stack")) as deployment:
        yield deployment
