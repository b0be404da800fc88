"""What can go wrong on the command line, in words for the person who typed it."""

from __future__ import annotations

FAILED = 1
USAGE = 2


class ControlError(Exception):
    """What is wrong, and what to do about it; ends the command with `exit_code`."""

    exit_code = FAILED

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class BadUsage(ControlError):
    """The command line itself is wrong."""

    exit_code = USAGE
