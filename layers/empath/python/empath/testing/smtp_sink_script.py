"""What a scripted SMTP server does and keeps; `smtp_sink` says how to write a script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Act:
    """What the server does at a stage: say something (bytes as they are), then go on or not."""

    say: str | bytes = b""
    then: Literal["go on", "close", "abort", "stall", "deaf"] = "go on"
    """`abort` resets the connection; `stall` reads on and says nothing; `deaf` does not even read."""
    delay: float = 0.0
    """Seconds before anything is said."""
    takes: bool = False
    """A message is taken, although no reply says so."""


DROP = Act(then="close")
RESET = Act(then="abort")
STALL = Act(then="stall")
DEAF = Act(then="deaf")
TAKE_AND_DROP = Act(then="close", takes=True)
TAKE_AND_STALL = Act(then="stall", takes=True)

Step = Act | str | bytes
Script = Mapping[str, Step | list[Step]]


@dataclass(frozen=True, slots=True)
class SinkMessage:
    """Content that was received up to its end."""

    reverse_path: str
    recipients: tuple[str, ...]
    parameters: tuple[str, ...]
    """Of MAIL."""
    content: bytes
    accepted: bool
    """False when the script answered with something else than 2xx, or not at all."""
    rcpt_parameters: tuple[tuple[str, ...], ...] = ()
    """Of each RCPT."""


@dataclass(slots=True)
class Session:
    """One connection, as far as it has come."""

    commands: list[str] = field(default_factory=list)
    flights: list[list[str]] = field(default_factory=list)
    """What the client sent between two times that it waited: commands, and `.` for the end of DATA."""
    tls: str | None = None
    reverse_path: str | None = None
    parameters: tuple[str, ...] = ()
    recipients: list[str] = field(default_factory=list)
    rcpt_parameters: list[tuple[str, ...]] = field(default_factory=list)
    chunks: bytes = b""
    """Content by BDAT so far."""
    partial: bytes = b""
    """Content that came before the connection ended, without its end."""

    def reset(self) -> None:
        self.reverse_path, self.parameters, self.chunks = None, (), b""
        self.recipients, self.rcpt_parameters = [], []


def class_of(act: Act) -> str:
    """The first digit of the reply."""
    return (act.say if isinstance(act.say, str) else act.say[:1].decode("latin-1"))[:1]
