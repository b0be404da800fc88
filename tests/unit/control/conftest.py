"""What a command prints must not depend on the terminal that the suite happens to run in."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    # GNU readline, once loaded, exports the size of its terminal to every process that is started later.
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)
