"""What a process that runs a listener wants of its operating system."""

from __future__ import annotations

import asyncio
import importlib.util
import resource


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is uvloop: half the CPU per message. And as many files as we may open."""
    _raise_open_files()
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
