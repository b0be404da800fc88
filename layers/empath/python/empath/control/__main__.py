"""The entry of `empathctl`: one line for whatever goes wrong, and an exit code of 0, 1 or 2."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import typer

from empath.control.errors import FAILED, ControlError
from empath.domain.errors import EmpathError

DEBUG = "--debug"
INTERRUPTED = 130


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit code of a command line: 0, 1 for a failure, 2 for a wrong command line.

    Typer reports a wrong command line by itself; everything else that goes wrong is one line here, and
    a traceback only with `--debug`, which may stand anywhere.
    """
    debug = DEBUG in arguments
    try:
        return _run([argument for argument in arguments if argument != DEBUG])
    except KeyboardInterrupt:
        return INTERRUPTED
    except ControlError as error:
        return _told(error, str(error), error.exit_code, debug=debug)
    except EmpathError as error:
        return _told(error, str(error), FAILED, debug=debug)
    except Exception as error:  # noqa: BLE001 (a person at a terminal gets a sentence, whatever happened)
        remedy = "" if debug else f"; run it again with {DEBUG} to see where"
        return _told(error, f"unexpected {type(error).__name__}: {error}{remedy}", FAILED, debug=debug)


def _run(arguments: Sequence[str]) -> int:
    from empath.control.cli import app

    try:
        typer.main.get_command(app)(args=list(arguments), prog_name="empathctl")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _told(error: BaseException, words: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    typer.echo(f"empathctl: {words}", err=True)
    return code


if __name__ == "__main__":
    main()
