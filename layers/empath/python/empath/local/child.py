"""`python -m empath.local.child MODULE`: run a module as a process that ends with the one that started it.

Its standard input is a pipe that only the parent holds open; the end of that asks for an orderly stop, and so
does the death of the parent, however that happens.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def stop_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    module = sys.argv.pop(1)
    threading.Thread(target=stop_with_parent, daemon=True).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
