"""What goes wrong between us and AWS, in the words of the domain: mapped here and nowhere else.

Everything that a client library raises becomes a Trouble, wrong permissions included: the mail is good, and
somebody can mend the rest while it waits. A refusal that is an answer (a condition that does not hold, an
object that is there already) is for its adapter to read with `code_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from empath.domain.errors import Trouble

# BotoCoreError covers what botocore found out by itself; aiohttp's own errors reach us from bodies read piece
# by piece; OSError holds TimeoutError, ssl.SSLError and connections that break.
FOREIGN = (BotoCoreError, ClientError, aiohttp.ClientError, OSError)

CONDITION_FAILED = "ConditionalCheckFailedException"


class trouble:  # noqa: N801 (a context manager, read as a word in `with trouble(...)`)
    """Raise `kind` in place of any foreign error inside; `what` says what was tried, without mail in it.

    A class, for this is on the path of every call and a generator costs twice as much.
    """

    __slots__ = ("_kind", "_what")

    def __init__(self, kind: type[Trouble], what: str) -> None:
        self._kind = kind
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, FOREIGN):
            raise self._kind(f"{self._what}: {_describe(error)}") from error


def code_of(error: ClientError) -> str:
    """The error code of a service's answer, such as `PreconditionFailed`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def http_status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def item_of(error: ClientError) -> dict[str, Any] | None:
    """The item that a failed condition was about, where the answer carries it (ALL_OLD)."""
    response: Mapping[str, Any] = error.response
    return response.get("Item") or None


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
