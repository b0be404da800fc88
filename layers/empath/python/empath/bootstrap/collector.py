"""When the garbage collector need not look: a process that begins makes many objects, and nearly all stay.

Looking through them again and again takes a sixth of a cold start's CPU. In Lambda it rests from here on,
where the imports of a door begin, until `imported`.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    gc.disable()


def imported() -> None:
    """The imports are done: what is there now is never looked at again, and what comes is."""
    gc.freeze()
    gc.enable()


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """No collections while what lives as long as the process is made, and none of that later."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()
