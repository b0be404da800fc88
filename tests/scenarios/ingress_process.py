"""The ingress as a process of its own, as a test starts, watches and ends it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
WITHIN = 60.0
"""Seconds that anything may take before a test gives up."""

CREDENTIALS = {
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
T = TypeVar("T")


class Ingress:
    def __init__(self, process: subprocess.Popen[bytes], output: Path, errors: Path) -> None:
        self.process = process
        self._output = output
        self._errors = errors

    def lines(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self._output.read_text().splitlines() if line.endswith("}")]
        return [line for line in found if "message" in line]

    def errors(self) -> str:
        return self._errors.read_text()

    def logged(self, pattern: str) -> list[re.Match[str]]:
        matches = (re.fullmatch(pattern, line["message"]) for line in self.lines())
        return [match for match in matches if match is not None]

    def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and report; 0 while nobody answers."""
        [match] = eventually(lambda: self.logged(r"health on 127\.0\.0\.1 port (\d+)"))
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{match[1]}/health/{path}", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as answer:
            return answer.code, json.load(answer)
        except OSError:
            return 0, {}

    def until_ready(self) -> None:
        eventually(lambda: self.ask("ready")[0] == 200)

    @property
    def port(self) -> int:
        """The relay port's number, once it is listened on."""
        return self.port_for("relay")

    def port_for(self, kind: str) -> int:
        """Another port's number."""

        def listening() -> list[re.Match[str]]:
            assert self.process.poll() is None, self.errors()
            return self.logged(rf"(?:listening on|\d processes share) .* port (\d+) for {kind}")

        return int(eventually(listening)[0][1])

    def pids(self) -> dict[int, int]:
        """The last process id of each listening process."""
        starts = [line for line in self.lines() if re.fullmatch(r"process \d started", line["message"])]
        return {int(line["message"].split()[1]): line["pid"] for line in starts}

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        return self.process.wait(WITHIN)


@contextmanager
def starting(folder: Path) -> Iterator[Callable[..., Ingress]]:
    """What starts an ingress on free ports, given its environment and perhaps what its command begins with;
    none of them outlives the block."""
    started: list[Ingress] = []
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("EMPATH_", "AWS_"))
    }

    def start(*before: str, **environment: str) -> Ingress:
        settings = {
            "EMPATH_HOSTNAME": "mx.example",
            "EMPATH_SMTP_PORT": "0",
            "EMPATH_HEALTH_PORT": "0",
            **CREDENTIALS,
        }
        output, errors = folder / f"output-{len(started)}", folder / f"errors-{len(started)}"
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                [*before, sys.executable, "-m", "functions.ingress"],
                cwd=ROOT,
                env=inherited | settings | environment,
                stdout=out,
                stderr=err,
            )
        started.append(Ingress(process, output, errors))
        return started[-1]

    try:
        yield start
    finally:
        for ingress in started:
            for pid in (*ingress.pids().values(), ingress.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            ingress.process.wait(WITHIN)


def eventually(look: Callable[[], T]) -> T:
    """What `look` finds once it is something."""
    deadline = time.monotonic() + WITHIN
    while not (found := look()):
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.05)
    return found
