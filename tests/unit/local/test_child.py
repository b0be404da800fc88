"""A process of the local stack ends with the one that started it, orderly, however that one died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

MODULE = """
import signal, sys, time
print(__name__, sys.argv[1:], flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
time.sleep(60)
"""


def test_the_module_runs_as_the_program_and_stops_when_its_parent_is_gone(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(MODULE)
    child = subprocess.Popen(
        [sys.executable, "-m", "empath.local.child", "sleeper", "argument"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"__main__ ['argument']\n"
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(timeout=30) in (7, -signal.SIGTERM)
    child.stdout.close()


def test_the_exit_code_of_the_module_is_that_of_the_process(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text("import sys\nsys.exit(2)\n")
    child = subprocess.Popen(
        [sys.executable, "-m", "empath.local.child", "failing"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdin=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.wait(timeout=30) == 2
    child.stdin.close()
