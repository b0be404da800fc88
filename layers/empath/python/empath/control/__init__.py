"""empathctl: a shell (Typer, Rich) over plain functions.

`cli` reads command lines and prints; `sending`, `queue_reading` and `story` do the work and know nothing of
terminals; `documents` is the published form of `--json`; `target` finds the deployment to talk to.
"""
