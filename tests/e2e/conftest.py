"""One deployment of the real stacks for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.deployment import Deployment


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment.running(tmp_path_factory.mktemp("local-stack")) as deployment:
        # Early, for workers read a policy anew after 30 seconds only.
        done = deployment.empathctl("policy", "set", "tenant:*", "content.keep=failed", "content.days=1")
        assert done.returncode == 0, done.stderr
        yield deployment
