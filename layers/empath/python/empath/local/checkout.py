"""Where the project's own tools are: the local stack deploys the real templates, so it needs the checkout."""

import os
from pathlib import Path

from empath.local.errors import LocalStackError

MARKS = ("cdk.json", "infra", "functions")


def checkout_root() -> Path:
    """The directory of cdk.json: EMPATH_CHECKOUT, or above the working directory, or above this file.

    Raises LocalStackError when there is none, as in an installed wheel outside of a checkout.
    """
    named = os.environ.get("EMPATH_CHECKOUT")
    starts = [Path(named)] if named else [Path.cwd(), Path(__file__).resolve().parent]
    for start in starts:
        for directory in (start, *start.parents):
            if all((directory / mark).exists() for mark in MARKS):
                return directory.resolve()
    raise LocalStackError(
        "the local stack runs from a checkout of the project, and this is none",
        "change into the checkout, or set EMPATH_CHECKOUT to it",
    )
