"""What a running local stack leaves for other processes to find: `<state-dir>/stack.json`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from empath.local.errors import LocalStackError


@dataclass(frozen=True, slots=True)
class RunningStack:
    """Addresses of a running local stack, and the process that holds it."""

    pid: Annotated[int, Field(gt=0)]
    endpoint_url: str
    region: str
    smtp: str
    inbox: str
    dns: str
    outputs: dict[str, str] = field(default_factory=dict)
    """The outputs of the deployed stacks, by their CloudFormation names."""
    submission: str = ""
    submissions: str = ""
    health: str = ""

    def is_alive(self) -> bool:
        """Whether the process that wrote this still runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


_RUNNING_STACK = TypeAdapter(RunningStack)


def state_file(state_dir: Path) -> Path:
    return state_dir / "stack.json"


def read_state(state_dir: Path) -> RunningStack | None:
    """The stack that runs, or was killed, in `state_dir`; None when none was left there.

    Raises LocalStackError for a file that cannot be read.
    """
    path = state_file(state_dir)
    try:
        text = path.read_text()
        json.loads(text)  # says better what is wrong with what is no JSON at all
        return _RUNNING_STACK.validate_json(text, strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError:
        raise LocalStackError(f"{path} does not describe a local stack", "remove it") from None
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise LocalStackError(f"{path} cannot be read ({words})", "remove it") from None


def write_state(state_dir: Path, stack: RunningStack) -> None:
    """Replace the file as a whole, so that a reader never sees half of it."""
    path = state_file(state_dir)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(stack), indent=2) + "\n")
    draft.replace(path)


def forget_state(state_dir: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        state_file(state_dir).unlink()


def lock_file(state_dir: Path) -> Path:
    """Locked by the process that holds the local stack of `state_dir`, for as long as it lives."""
    return state_dir / "lock"


def is_held(state_dir: Path) -> bool:
    """Whether a process holds a local stack in `state_dir` now."""
    try:
        with lock_file(state_dir).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
