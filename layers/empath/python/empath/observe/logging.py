"""Log lines as JSON, each with what it is about.

Code logs through the standard library; `configure` decides once how lines look. What a line is about
(message_id, delivery, attempt, trace_id) comes from `extra={...}` and from `log_context`, which follows
asyncio tasks, so that concurrent jobs of one batch do not mix.

Only this project's loggers follow the configured level. Everyone else's stay at WARNING: at DEBUG the
AWS clients log request bodies, which are mail and credentials.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TextIO

from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from empath.observe.tracing import trace_id

OWN_LOGGERS = ("empath", "functions", "handler", "__main__")
"""`handler` is the module name of a door inside of Lambda, `__main__` that of the ingress."""

REDACTED = "[REDACTED]"
_NEVER_LOGGED = frozenset(
    {"authorization", "body", "content", "credentials", "data", "password", "secret", "token"}
)
# Fields of a LogRecord (3.12 on) or of Powertools that say nothing here, or say it under another name.
_DROPPED = ("taskName", "xray_trace_id")

# json.dumps would make an encoder for each line.
_encode = json.JSONEncoder(default=str, separators=(",", ":"), ensure_ascii=True).encode

_context: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default=MappingProxyType({}))


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Every line logged inside, in this task and those that it starts, has these fields (None: not)."""
    known = {name: value for name, value in fields.items() if value is not None}
    token = _context.set({**_context.get(), **known})
    try:
        yield
    finally:
        _context.reset(token)


def configure(
    function: str, level: str = "INFO", *, service: str = "empath", to: TextIO | None = None
) -> None:
    """Make every logger write JSON lines to `to` (standard output). Again: replaces the first time's.

    `level` is a name of the standard library; ValueError for another one.
    """
    handler = logging.StreamHandler(to or sys.stdout)
    handler.setFormatter(JsonLines(service=service, function=function))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=True)


class JsonLines(LambdaPowertoolsFormatter):
    """Powertools' line, with the context's fields; one line per record, in ASCII.

    ASCII because control characters of other scripts, and halves of a surrogate pair, would otherwise
    reach the terminal or break the stream.
    """

    def __init__(self, *, service: str, function: str) -> None:
        super().__init__(
            utc=True,
            use_rfc3339=True,
            serialize_stacktrace=False,  # the traceback is in `exception` already
            json_deserializer=str,  # a message that looks like JSON is still a message
            service=service,
            function=function,
        )

    # Typed as in Powertools, whose alias LogRecord is a TypedDict and only a hint.
    def serialize(self, log: Any) -> str:
        line: dict[str, Any] = {**log}
        for name in _DROPPED:
            line.pop(name, None)
        for name, value in _context.get().items():
            line.setdefault(name, value)
        if "trace_id" not in line and (trace := trace_id()) is not None:
            line["trace_id"] = trace
        for name in _NEVER_LOGGED & line.keys():
            line[name] = REDACTED
        return _encode(line)
