"""CPU time of a local stack's processes, out of /proc: on Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def cpu_by_part(stack: int) -> dict[tuple[str, int], float]:
    """CPU seconds so far of the stack's process and all its descendants, by part and process id."""
    processes = dict(_processes())
    found: dict[tuple[str, int], float] = {}
    for pid, (parent, seconds) in processes.items():
        line = pid
        while line not in (stack, 0) and line in processes:
            line = processes[line][0]
        if line == stack:
            found[_part(pid, parent, stack), pid] = seconds
    return found


def cpu_of(stack: int) -> float:
    """CPU seconds so far of the stack and all its descendants that still run."""
    return sum(cpu_by_part(stack).values())


def _processes() -> Iterator[tuple[int, tuple[int, float]]]:
    tick = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        yield int(entry.name), (int(fields[1]), (int(fields[11]) + int(fields[12])) / tick)


def _part(pid: int, parent: int, stack: int) -> str:
    if pid == stack:
        return "inbox and DNS"
    try:
        command = (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        command = b""
    if b"functions.ingress" in command:
        return "ingress"
    return "embedded AWS" if parent == stack else "functions"
