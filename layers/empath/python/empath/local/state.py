"""What a running local stack leaves for other processes to find: `<state-dir>/stack.json`."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from empath.local.errors import LocalStackError


@dataclass(frozen=True, slots=True)
class RunningStack:
    """Addresses of a running local stack, and the process that holds it."""

    pid: int
    endpoint_url: str
    region: str
    smtp: str
    inbox: str
    dns: str
    outputs: dict[str, str] = field(default_factory=dict)
    """The outputs of the deployed stacks, by their CloudFormation names."""

    def is_alive(self) -> bool:
        """Whether the process that wrote this still runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def state_file(state_dir: Path) -> Path:
    return state_dir / "stack.json"


def read_state(state_dir: Path) -> RunningStack | None:
    """The stack that runs, or was killed, in `state_dir`; None when none was left there.

    Raises LocalStackError for a file that cannot be read.
    """
    path = state_file(state_dir)
    try:
        return RunningStack(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise LocalStackError(f"{path} cannot be read ({error})", "remove it") from None


def write_state(state_dir: Path, stack: RunningStack) -> None:
    """Replace the file as a whole, so that a reader never sees half of it."""
    path = state_file(state_dir)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(stack), indent=2) + "\n")
    draft.replace(path)


def forget_state(state_dir: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        state_file(state_dir).unlink()
